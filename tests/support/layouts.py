"""Layouts in which people keep conversations: each writes a talk as a file's text. The table of data/README.md, too."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

Exchanges = list[tuple[str, str]]


class Layout(NamedTuple):
    """How a talk is written."""

    write: Callable[[str, Exchanges], str]
    """From (system text or "", questions with their answers) to the text of a file."""
    becomes: str
    """What README.md says of it."""
    has_system: bool = False
    has_turns: bool = False
    """Whether more than one exchange can be written."""
    name: str = "data.jsonl"


def turns(before: str, exchanges: Exchanges, role: str = "role", content: str = "content", **names: str) -> list[Any]:
    """The talk as a list of turns; `before` is what the system says."""
    said = ([("system", before)] if before else []) + [
        turn for question, answer in exchanges for turn in (("user", question), ("assistant", answer))
    ]
    return [{role: names.get(who, who), content: text} for who, text in said]


def one(**keys: str) -> Callable[[str, Exchanges], str]:
    """A record of one exchange: `question` and `answer`, `system` where it is named."""

    def write(system: str, exchanges: Exchanges) -> str:
        values = {"question": exchanges[0][0], "answer": exchanges[0][1], "system": system, "nothing": ""}
        return json.dumps({key: values[what] for key, what in keys.items() if what != "system" or system})

    return write


def of_turns(key: str, **names: str) -> Callable[[str, Exchanges], str]:
    return lambda system, exchanges: json.dumps({key: turns(system, exchanges, **names)})


def _parts(key: str, **more: str) -> Callable[[str, Exchanges], str]:
    def write(system: str, exchanges: Exchanges) -> str:
        messages = turns(system, exchanges)
        return json.dumps({"messages": [{**one, "content": [{**more, key: one["content"]}]} for one in messages]})

    return write


def _gemini(system: str, exchanges: Exchanges) -> str:
    contents = [
        {"role": one["role"], "parts": [{"text": one["content"]}]} for one in turns("", exchanges, assistant="model")
    ]
    beside = {"systemInstruction": {"parts": [{"text": system}]}} if system else {}
    return json.dumps({**beside, "contents": contents})


def _marked(before: str, after: str, **names: str) -> Callable[[str, Exchanges], str]:
    def write(system: str, exchanges: Exchanges) -> str:
        said = turns(system, exchanges)
        return json.dumps(
            {"text": "".join(before % names.get(one["role"], one["role"]) + one["content"] + after for one in said)}
        )

    return write


def _inst(system: str, exchanges: Exchanges) -> str:
    beside = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
    texts = [f"<s>[INST] {question} [/INST] {answer} </s>" for question, answer in exchanges]
    return json.dumps({"text": "".join(texts).replace("[INST] ", f"[INST] {beside}", 1)})


def _chatgpt(system: str, exchanges: Exchanges) -> str:
    mapping: dict[str, Any] = {"root": {"message": None, "parent": None, "children": ["0"]}}
    said = turns(system, exchanges)
    for place, message in enumerate(said):
        content = {"content_type": "text", "parts": [message["content"]]}
        mapping[str(place)] = {
            "message": {"author": {"role": message["role"]}, "content": content},
            "parent": str(place - 1) if place else "root",
        }
    return json.dumps([{"title": "a talk", "mapping": mapping, "current_node": str(len(said) - 1)}])


def _request(system: str, exchanges: Exchanges) -> str:
    *asked, answer = turns(system, exchanges)
    return json.dumps({"request": {"messages": asked}, "response": {"choices": [{"message": answer}]}})


def _pair_lists(system: str, exchanges: Exchanges) -> str:
    *asked, answer = turns(system, exchanges)
    return json.dumps({"prompt": asked, "chosen": [answer], "rejected": [{**answer, "content": "no"}]})


def _whole_pair(system: str, exchanges: Exchanges) -> str:
    *asked, answer = turns(system, exchanges)
    return json.dumps({"chosen": [*asked, answer], "rejected": [*asked, {**answer, "content": "no"}]})


def _openai_pair(system: str, exchanges: Exchanges) -> str:
    *asked, answer = turns(system, exchanges)
    other = [{**answer, "content": "no"}]
    return json.dumps({"input": {"messages": asked}, "preferred_output": [answer], "non_preferred_output": other})


def _history(question: str, answer: str) -> Callable[[str, Exchanges], str]:
    def write(system: str, exchanges: Exchanges) -> str:
        *earlier, last = exchanges
        record = {question: last[0], answer: last[1], "history": [list(pair) for pair in earlier]}
        return json.dumps({**record, **({"system": system} if system else {})})

    return write


def _table(separator: str, *columns: str, before: str = "") -> Callable[[str, Exchanges], str]:
    def write(system: str, exchanges: Exchanges) -> str:
        cells = [text.replace('"', '""') for text in exchanges[0]]
        return f"{before}{separator.join(columns)}\n" + separator.join(f'"{cell}"' for cell in cells) + "\n"

    return write


def _table_of_lists(system: str, exchanges: Exchanges) -> str:
    listed = repr(turns(system, exchanges)).replace('"', '""')
    return f'id,messages\n1,"{listed}"\n'


def _rows(key: str, chained: bool) -> Callable[[str, Exchanges], str]:
    def write(system: str, exchanges: Exchanges) -> str:
        rows = []
        for place, message in enumerate(turns(system, exchanges)):
            own = {"message_id": str(place), "parent_id": str(place - 1) if place else None} if chained else {key: "t1"}
            rows.append(json.dumps({**own, "role": message["role"], "text": message["content"]}))
        return "\n".join(rows)

    return write


def _tree(system: str, exchanges: Exchanges) -> str:
    node: dict[str, Any] | None = None
    for message in reversed(turns("", exchanges, user="prompter")):
        node = {"role": message["role"], "text": message["content"], "replies": [node] if node else []}
    return json.dumps({"message_tree_id": "x", "prompt": node})


def _ultrachat(system: str, exchanges: Exchanges) -> str:
    return json.dumps({"id": "7", "data": [text for exchange in exchanges for text in exchange]})


def _pairs(question: str, answer: str) -> Callable[[str, Exchanges], str]:
    def write(system: str, exchanges: Exchanges) -> str:
        return json.dumps({"conversation": [{question: one, answer: two} for one, two in exchanges]})

    return write


def _in_text(system: str, exchanges: Exchanges) -> str:
    return json.dumps({"messages": json.dumps(turns(system, exchanges))})


def _wrapped(system: str, exchanges: Exchanges) -> str:
    return json.dumps({"version": 1, "data": [{"messages": turns(system, exchanges)}]}, indent=1)


BOTH = {"has_system": True, "has_turns": True}
HUMAN = {"role": "from", "content": "value", "user": "human", "assistant": "gpt"}
LAYOUTS = {
    "messages": Layout(of_turns("messages"), "is what is trained", **BOTH),
    "a bare list": Layout(lambda s, e: json.dumps(turns(s, e)), "messages", **BOTH),
    "ShareGPT": Layout(of_turns("conversations", **HUMAN), "messages", **BOTH),
    "Alpaca": Layout(
        one(instruction="question", input="nothing", output="answer"), "the input follows the instruction"
    ),
    "Alpaca with history": Layout(_history("instruction", "output"), "earlier turns come first", **BOTH),
    "Dolly": Layout(
        one(instruction="question", context="nothing", response="answer", category="nothing"),
        "the context follows the instruction",
    ),
    "Orca": Layout(
        one(system_prompt="system", question="question", response="answer"), "system, question, answer", has_system=True
    ),
    "prompt and completion": Layout(one(prompt="question", completion="answer"), "question and answer"),
    "prompt and completion as lists": Layout(
        lambda s, e: json.dumps({"prompt": turns(s, e)[:-1], "completion": turns(s, e)[-1:]}),
        "messages, with a note: earlier answers are trained too",
        **BOTH,
    ),
    "prompt and response": Layout(one(prompt="question", response="answer"), "question and answer"),
    "question and answer": Layout(one(question="question", answer="answer"), "question and answer"),
    "query, response, history": Layout(_history("query", "response"), "earlier turns come first", **BOTH),
    "input and output": Layout(one(input="question", output="answer"), "question and answer"),
    "user and assistant": Layout(one(user="question", assistant="answer"), "question and answer"),
    "pairs of human and assistant": Layout(_pairs("human", "assistant"), "two turns each", has_turns=True),
    "capitalised keys": Layout(one(Instruction="question", Response="answer"), "question and answer"),
    "roles of other programs": Layout(
        of_turns("messages", user="User", assistant="Chatbot", system="System"), "user, assistant, system", **BOTH
    ),
    "text parts": Layout(_parts("text", type="text"), "texts, with line breaks between the parts", **BOTH),
    "value parts": Layout(_parts("value", type="text"), "texts, with line breaks between the parts", **BOTH),
    "Bedrock": Layout(_parts("text"), "texts, with line breaks between the parts", **BOTH),
    "Gemini": Layout(_gemini, "messages; systemInstruction is the system message", **BOTH),
    "UltraChat": Layout(_ultrachat, "user and assistant in turn", has_turns=True),
    "messages in a text": Layout(_in_text, "messages", **BOTH),
    "ChatML text": Layout(_marked("<|im_start|>%s\n", "<|im_end|>\n"), "a turn at each mark", **BOTH),
    "### text": Layout(
        _marked("### %s:\n", "\n\n", user="Human", assistant="Assistant"), "a turn at each mark", **BOTH
    ),
    "[INST] text": Layout(_inst, "a turn at each mark; <<SYS>> is the system message", **BOTH),
    "Llama 3 text": Layout(
        _marked("<|start_header_id|>%s<|end_header_id|>\n\n", "<|eot_id|>"), "a turn at each mark", **BOTH
    ),
    "Human: text": Layout(
        _marked("\n\n%s: ", "", user="Human", assistant="Assistant"), "a turn at each mark", has_turns=True
    ),
    "export of ChatGPT": Layout(_chatgpt, "the branch that was shown last; others are dropped, and said", **BOTH),
    "export of Claude": Layout(
        of_turns("chat_messages", role="sender", content="text", user="human"), "messages", has_turns=True
    ),
    "OpenAssistant's tree": Layout(
        _tree, "the branch of the best replies; others are dropped, and said", has_turns=True
    ),
    "a logged request": Layout(_request, "its messages and the answer", **BOTH),
    "chosen and rejected": Layout(
        one(prompt="question", chosen="answer", rejected="nothing"),
        'the chosen answer; the other beside it as "rejected"',
    ),
    "chosen and rejected as lists": Layout(_pair_lists, 'the chosen answer; the other beside it as "rejected"', **BOTH),
    "chosen and rejected conversations": Layout(
        _whole_pair, 'the chosen conversation; the other answer beside it as "rejected"', **BOTH
    ),
    "preferred_output": Layout(_openai_pair, 'the preferred answer; the other beside it as "rejected"', **BOTH),
    '{"data": [...]}': Layout(_wrapped, "a line for each conversation", **BOTH),
    "CSV": Layout(_table(",", "prompt", "completion"), "a conversation for each row", name="data.csv"),
    "CSV of Excel": Layout(
        _table(";", "question", "answer", before="sep=;\n"), "a conversation for each row", name="data.csv"
    ),
    "TSV": Layout(_table("\t", "instruction", "output"), "a conversation for each row", name="data.tsv"),
    "CSV with lists": Layout(_table_of_lists, "a conversation for each row", name="data.csv", **BOTH),
    "rows with parent_id": Layout(
        _rows("", chained=True), "a conversation for each branch; what branches share is learned once", **BOTH
    ),
    "rows with conversation_id": Layout(_rows("conversation_id", chained=False), "a conversation for each id", **BOTH),
}
"""By what people call them."""


def readme_table() -> str:
    """The table of data/README.md."""
    rows = ["| layout | example | what becomes of it |", "|---|---|---|"]
    for name, layout in LAYOUTS.items():
        example = layout.write("Be brief." if layout.has_system else "", [("Name a fruit.", "A plum.")])
        shown = " ".join(example.split("\n")) if example.startswith("{\n") else example.strip().replace("\n", "⏎")
        cell = shown.replace("|", "\\|")
        rows.append(f"| {name} | `{cell}` | {layout.becomes} |")
    return "\n".join(rows)
