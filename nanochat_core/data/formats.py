"""Conversations in other people's formats (ShareGPT, Alpaca, prompt and completion) as nanochat's messages.

Each importer takes one record of a file and returns {"messages": [...]}; the messages are not judged here.
"""

from typing import Any

ROLE_NAMES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
}
"""Names of roles in lower case, as they are found in the wild, and nanochat's name for each."""

PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "output"),
    ("question", "answer"),
    ("query", "response"),
    ("user", "assistant"),
)
"""Keys of records that hold one question and one answer."""


def recognise(record: Any) -> str | None:
    """`ShareGPT`, `Alpaca` or `prompt/completion` when the record is of that format, else None."""
    if not isinstance(record, dict) or "messages" in record:
        return None
    if isinstance(_dialogue(record), list):
        return "ShareGPT"
    if "instruction" in record and "output" in record:
        return "Alpaca"
    return "prompt/completion" if _pair(record) else None


def import_record(record: dict[str, Any]) -> dict[str, Any]:
    """{"messages": [...]} from a record of any of the formats. ValueError when it is of none."""
    importer = {"ShareGPT": from_sharegpt, "Alpaca": from_alpaca, "prompt/completion": from_prompt_completion}
    name = recognise(record)
    if name is None:
        raise ValueError("This record is not ShareGPT, Alpaca or prompt/completion: write it as messages.")
    return importer[name](record)


def from_sharegpt(record: dict[str, Any]) -> dict[str, Any]:
    """From {"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}], "system": "..."}."""
    turns = _dialogue(record)
    if not isinstance(turns, list):
        raise ValueError('A ShareGPT record has a list "conversations": add it, or use another importer.')
    return {"messages": _system(record) + [import_message(turn) for turn in turns]}


def from_alpaca(record: dict[str, Any]) -> dict[str, Any]:
    """From {"instruction": "...", "input": "...", "output": "..."}; the input, if any, follows the instruction."""
    if "instruction" not in record or "output" not in record:
        raise ValueError('An Alpaca record has "instruction" and "output": add them, or use another importer.')
    question, more = record["instruction"], record.get("input") or ""
    if not isinstance(question, str) or not isinstance(more, str):
        raise ValueError('The "instruction" and the "input" must be text: put them in quotes.')
    if more:
        question = f"{question}\n\n{more}"
    earlier = [message for pair in _history(record) for message in _turns(*pair)]
    return {"messages": _system(record) + earlier + _turns(question, record["output"])}


def from_prompt_completion(record: dict[str, Any]) -> dict[str, Any]:
    """From {"prompt": "...", "completion": "..."} or a like pair of keys (see PAIRS); both may be lists of messages."""
    keys = _pair(record)
    if keys is None:
        raise ValueError('The record has no pair such as "prompt" and "completion": add it, or use another importer.')
    question, answer = record[keys[0]], record[keys[1]]
    if isinstance(question, list) and isinstance(answer, list):
        return {"messages": _system(record) + [import_message(message) for message in question + answer]}
    return {"messages": _system(record) + _turns(question, answer)}


def import_message(message: Any) -> Any:
    """{"from", "value"} as {"role", "content"}, with nanochat's name for the role; other keys and values stay."""
    if not isinstance(message, dict):
        return message
    renamed = {"from": "role", "value": "content"}
    keys = {key: renamed[key] if key in renamed and renamed[key] not in message else key for key in message}
    imported = {keys[key]: value for key, value in message.items()}
    role = imported.get("role")
    if isinstance(role, str):
        imported["role"] = ROLE_NAMES.get(role.strip().lower(), role)
    return imported


def imported_keys(record: dict[str, Any]) -> set[str]:
    """The keys of the record that the importer has turned into messages; the others are the person's own."""
    name = recognise(record)
    if name == "ShareGPT":
        return {"conversations" if "conversations" in record else "conversation", "system"}
    if name == "Alpaca":
        return {"instruction", "input", "output", "history", "system"}
    return {*(_pair(record) or ()), "system"}


def _dialogue(record: dict[str, Any]) -> Any:
    return record.get("conversations", record.get("conversation"))


def _pair(record: dict[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if pair[0] in record and pair[1] in record), None)


def _turns(question: Any, answer: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _system(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "system", "content": record["system"]}] if record.get("system") else []


def _history(record: dict[str, Any]) -> list[list[Any]]:
    """Earlier turns of an Alpaca record: pairs of question and answer."""
    pairs = record.get("history") or []
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError('The "history" is not a list of [question, answer] pairs: correct or remove it.')
    return pairs
