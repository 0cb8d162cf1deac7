"""What one conversation must be like: judges a JSON value and says everything that is wrong with it, in sentences."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

from nanochat_core.data.formats import names
from nanochat_core.data.formats.chains import belong_together
from nanochat_core.data.formats.names import TOOL_ROLES, plain
from nanochat_core.data.formats.record import recognise
from nanochat_core.data.formats.turns import kind_of
from nanochat_core.data.keys import key_warnings, mark_faults, rejected_answer, verdict_faults
from nanochat_core.data.report import Fault
from nanochat_core.data.roles import TOOL, meant_role, order_faults, role_faults
from nanochat_core.data.text_marks import mark_warnings
from nanochat_core.system.words import SEEN, name_numbers, quoted
from nanochat_core.tokenizer.messages import PART_TYPES, ROLES, not_trained_by, wrong_part

MAX_DEPTH = 100
_SHAPE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'


def nests_too_deeply(value: Any) -> bool:
    """Whether lists and objects stand in each other more than MAX_DEPTH times; a conversation needs five levels.

    What is deeper can overflow the stack of whatever walks through it. Hence no recursion here either.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [list(item.values()) if isinstance(item, dict) else item for item in level]
        level = [part for item in inner for part in item if isinstance(part, dict | list)]
        if not level:
            return False
    return True


def ordinary_contents(messages: Any) -> list[str] | None:
    """The contents of messages of the common kind: texts only, nothing empty, right order, no other keys. Else None.

    The quick way for nearly every line of nearly every file; whatever is not ordinary goes through `judge`.
    """
    if type(messages) is not list or not messages:
        return None
    try:
        if [message["role"] for message in messages] != _order(len(messages)) or set(map(len, messages)) != {2}:
            return None
        contents = [message["content"] for message in messages]
        return contents if all(map(SEEN.search, contents)) else None  # a TypeError when one is no text
    except (TypeError, KeyError):
        return None


@lru_cache
def _order(count: int) -> list[str] | None:
    """The roles of `count` messages of which the first is the system's when they are odd in number."""
    return [*ROLES[: count % 2], *ROLES[1:] * (count // 2)] if count > 1 else None


def judge(value: Any) -> tuple[list[dict[str, Any]] | None, list[Fault]]:
    """(normalized messages or None when there is an error, everything wrong or worth a warning) of one JSON value."""
    messages = value if isinstance(value, list) else value.get("messages") if isinstance(value, dict) else None
    verdicts = list(verdict_faults(value))
    if not isinstance(messages, list) or not messages:
        is_pair = any(fault.kind == "preference_pair" for fault in verdicts)
        return None, verdicts if is_pair else [*verdicts, _no_messages(value)]
    tools = [number for number, message in enumerate(messages, 1) if _calls_tools(message)]
    faults = [*verdicts, *mark_faults(value, messages), *_tool_faults(tools)]
    others = [TOOL if number in tools else message for number, message in enumerate(messages, 1)] if tools else messages
    faults += [*role_faults(others), *_content_faults(others)]
    if not tools:
        faults += order_faults(messages, awaits_answer=any(fault.kind == "preference_pair" for fault in verdicts))
    faults += key_warnings(value, messages)
    if any(fault.level == "error" for fault in faults):
        return None, faults
    normal = _normalized_all(value, messages)
    return normal, [*faults, *_mark_warnings(normal)]


def texts(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Every text of normalized messages, those of the parts too."""
    for message in messages:
        if isinstance(message["content"], str):
            yield message["content"]
        else:
            yield from (part["text"] for part in message["content"])


def surrogate_faults(messages: list[dict[str, Any]]) -> list[Fault]:
    r"""An error when a text holds half of a surrogate pair (\ud800 to \udfff), which is no character."""
    numbers = [n for n, message in enumerate(messages, 1) if not all(map(_is_encodable, texts([message])))]
    if not numbers:
        return []
    what = f"{name_numbers('Message', numbers)}: the text holds half of a character (a code from \\ud800 to \\udfff)."
    fix = "Write the whole character, or remove the half."
    return [Fault("error", "broken_character", what, fix)]


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _normalized_all(value: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    is_off = isinstance(value, dict) and not_trained_by({k: v for k, v in value.items() if k != "messages"}) is not None
    return [_normalized(message, is_off) for message in messages]


def _normalized(message: dict[str, Any], is_off: bool) -> dict[str, Any]:
    """Role and content; "train": False for an answer that is not to be trained, however that is said; "rejected"."""
    content = message["content"]
    if isinstance(content, list):
        content = [{"type": part["type"], "text": part["text"]} for part in content]
    normal = {"role": message["role"], "content": content}
    if message["role"] == "assistant" and (is_off or not_trained_by(message) is not None or _is_marked_bad(message)):
        normal["train"] = False
    if message["role"] == "assistant" and len(message) > 2 and (rejected := rejected_answer(message)):
        normal["rejected"] = rejected
    return normal


def _is_marked_bad(message: dict[str, Any]) -> bool:
    """A verdict on one answer of several: it is read, and not learned."""
    return len(message) > 2 and any(fault.kind == "negative_example" for fault in verdict_faults(message))


def _mark_warnings(messages: list[dict[str, Any]]) -> Iterator[Fault]:
    if not any(message.get("train", True) for message in messages if message["role"] == "assistant"):
        message = "Every answer is marked as not to be trained: there is nothing left to learn."
        yield Fault("warning", "nothing_to_learn", message, "Remove the marks, or the conversation.")


def _calls_tools(message: Any) -> bool:
    """Whether a message is a call of a tool, or a tool's answer, and has no words of its own."""
    if not isinstance(message, dict):
        return False
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if isinstance(role, str) and plain(role) in TOOL_ROLES:
        return True
    if isinstance(content, list) and any(_is_call(part) for part in content):
        return True
    has_words = (isinstance(content, str) and bool(content.strip())) or (isinstance(content, list) and bool(content))
    return not has_words and any(message.get(key) for key in message if plain(key) in names.CALLS)


def _is_call(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    calls = {"tool_use", "tool_result", "tool_call", "function_call", "functioncall", "functionresponse"}
    return plain(kind) in calls if isinstance(kind, str) else any(plain(key) in calls for key in part)


def _tool_faults(numbers: list[int]) -> Iterator[Fault]:
    if numbers:
        message = f"{name_numbers('Message', numbers)}: tool calls and tools' answers cannot be trained here."
        fix = "Remove these turns, or let the assistant say in words what it found."
        yield Fault("error", "tool_calls", message, fix)


def _no_messages(value: Any) -> Fault:
    """Why there is no list of messages in this value."""
    if isinstance(value, list):
        return Fault("error", "no_messages", "The list of messages is empty.", f"Write {_SHAPE}, or remove the line.")
    if not isinstance(value, dict):
        message = f"This line is {_kind(value)}, not a conversation."
        return Fault("error", "not_an_object", message, f"Write {_SHAPE}.")
    if name := recognise(value):
        message = f'This line has no "messages"; it looks like the {name} format (keys {_keys(value)}).'
        return Fault("error", "other_format", message, "Import it.")
    if "messages" in value:
        messages = value["messages"]
        what = "is empty" if messages == [] else f"is {_kind(messages)}, not a list"
        return Fault("error", "no_messages", f'"messages" {what}.', f"Write {_SHAPE}.")
    if key := next((key for key in value if plain(key) in names.TURNS and _is_unread_list(value[key])), None):
        message = f"{quoted(key, 20)} holds a list that is written as text, and neither as JSON nor as Python has it."
        fix = 'Save the data as JSON lines: in pandas `to_json("NEW.jsonl", orient="records", lines=True)`, not to_csv.'
        return Fault("error", "no_messages", message, fix)
    if belong_together(value):
        message = "This line is one row of a conversation, or a row that another one answers."
        fix = "Put the conversation on one line; `check FILE --fix NEW.jsonl` joins the rows that belong together."
        return Fault("error", "no_messages", message, fix, once=True)
    if "role" in value or "from" in value:
        message = "This line is a single message, not a conversation."
        return Fault("error", "no_messages", message, f"Put all messages of a conversation on one line: {_SHAPE}.")
    what = f"its keys are {_keys(value)}" if value else "it is empty"
    return Fault("error", "no_messages", f'This line has no "messages"; {what}.', f"Write {_SHAPE}.")


def _is_unread_list(content: Any) -> bool:
    """Whether a text is what numpy makes of a list of turns: without commas, or with the name of its type."""
    return isinstance(content, str) and content.lstrip().startswith(("[{", "array([{"))


def _content_faults(messages: list[Any]) -> Iterator[Fault]:
    """Content that is not text, malformed parts, and warnings about empty texts."""
    by_fault: dict[tuple[str, str, str], list[int]] = {}
    for number, message in enumerate(messages, 1):
        if isinstance(message, dict):
            for key in _content_of_message(message):
                by_fault.setdefault(key, []).append(number)
    for (kind, what, fix), numbers in list(by_fault.items())[:10]:
        level = "warning" if kind in ("empty_text", "lonely_tool_part") else "error"
        yield Fault(level, kind, f"{name_numbers('Message', numbers)}: {what}.", fix)
    yield from mark_warnings(text for message in messages if isinstance(message, dict) for text in _said(message))


def _said(message: dict[str, Any]) -> Iterator[str]:
    """Every text of a message that may be malformed."""
    content = message.get("content")
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            yield text


def _content_of_message(message: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(kind, what, fix) for each fault of one content."""
    role, fix = meant_role(message), 'Write text in quotes: "content": "...".'
    if "content" not in message and "from" in message and "value" in message:
        return  # ShareGPT's names, which the fault about the role explains
    if "content" not in message:
        yield "content_not_text", 'there is no "content"', fix
    elif isinstance(message["content"], list) and (kinds := _media_of(message["content"])):
        what = f"it holds what the model cannot see ({', '.join(kinds)})"
        yield "media_part", what, "Leave the conversation out, or describe in words what is to be seen or heard."
    elif isinstance(message["content"], list) and role == "assistant":
        yield from _part_faults(message["content"], is_trained=_is_learned(message))
    elif isinstance(message["content"], list):
        what = "the content is a list; only the assistant's may be in parts"
        yield "content_not_text", what, 'Write text in quotes: "content": "...".'
    elif not isinstance(message["content"], str):
        yield "content_not_text", f"the content is {_kind(message['content'])}, not text", fix
    elif not SEEN.search(message["content"]):
        yield _nothing_said(role, role == "assistant" and _is_learned(message))


def _is_learned(message: dict[str, Any]) -> bool:
    return not_trained_by(message) is None and not _is_marked_bad(message)


def _nothing_said(role: str | None, is_learned: bool) -> tuple[str, str, str]:
    if is_learned:
        return (
            "empty_answer",
            "the assistant says nothing, and the model would learn to say nothing",
            "Write the answer.",
        )
    return "empty_text", f"the {role or 'text'} says nothing", "Write the text, if it was forgotten."


def _media_of(parts: list[Any]) -> list[str]:
    """The kinds of pictures, sound and video among the parts."""
    return [kind for kind in dict.fromkeys(map(kind_of, parts)) if kind in names.MEDIA]


def _part_faults(parts: list[Any], is_trained: bool) -> Iterator[tuple[str, str, str]]:
    fix = f'Write each part as {{"type": "...", "text": "..."}}, its type one of {", ".join(PART_TYPES)}.'
    if not parts:
        yield "malformed_part", "the content is an empty list", fix
    malformed = False
    for number, part in enumerate(parts, 1):
        if what := wrong_part(part):
            malformed = True
            yield "malformed_part", f"part {number} {what}", fix
    if malformed or not parts:
        return
    if not any(SEEN.search(part["text"]) for part in parts):
        yield _nothing_said("assistant", is_trained)
    kinds = ["", *(part["type"] for part in parts), ""]
    if any(one == "python" and two != "python_output" for one, two in pairwise(kinds)):
        yield "lonely_tool_part", "a python part has no python_output after it", "Add what the calculator answers."
    if any(two == "python_output" and one != "python" for one, two in pairwise(kinds)):
        yield "lonely_tool_part", "a python_output part has no python part before it", "Add the calculation."


def _keys(value: dict[str, Any]) -> str:
    names = [quoted(key, 20) for key in list(value)[:6]]
    return ", ".join(names) + (" and more" if len(value) > 6 else "")


def _kind(value: Any) -> str:
    """A JSON value's kind in a person's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    return {int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}[type(value)]
