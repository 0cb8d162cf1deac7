"""Edits of one conversation as plain functions on its JSON: texts, roles, turns, parts. Unknown keys are kept."""

import json
from typing import Any

from nanochat_core.data.line import to_line
from nanochat_core.tokenizer.messages import ROLES

Value = dict[str, Any] | list[Any]


def blank_conversation() -> bytes:
    """One exchange to fill in."""
    return line_of({"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]})


def line_of(value: Value) -> bytes:
    """The JSON of a conversation as one line, without its end."""
    return to_line(value).rstrip(b"\n")


def from_text(text: str) -> bytes:
    """What a person typed as JSON, as one line: written again when it can be read, else with blanks for line breaks."""
    try:
        return line_of(json.loads(text))
    except (ValueError, RecursionError):
        return " ".join(text.split("\n")).strip().encode("utf-8", "backslashreplace")


def editable(data: bytes) -> Value | None:
    """The conversation when it can be shown as turns: messages with a role and texts. None: only as raw text."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list) or not all(map(_is_turn, messages)):
        return None
    return value


def _is_turn(message: Any) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return False
    content = message.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content)
    return isinstance(content, str)


def messages_of(value: Value) -> list[dict[str, Any]]:
    """The messages, whichever of the two forms a line has."""
    return value if isinstance(value, list) else value["messages"]


def set_text(data: bytes, turn: int, part: int | None, text: str) -> bytes:
    """The line with another text in a turn, or in one part of it."""
    value = json.loads(data)
    message = messages_of(value)[turn]
    if part is None:
        message["content"] = text
    else:
        message["content"][part]["text"] = text
    return line_of(value)


def set_role(data: bytes, turn: int, role: str) -> bytes:
    """The line with another role in a turn."""
    assert role in ROLES
    value = json.loads(data)
    messages_of(value)[turn]["role"] = role
    return line_of(value)


def add_turn(data: bytes) -> bytes:
    """An empty turn at the end, of the speaker who has not spoken last."""
    value = json.loads(data)
    messages = messages_of(value)
    role = "assistant" if messages and messages[-1]["role"] == "user" else "user"
    messages.append({"role": role, "content": ""})
    return line_of(value)


def insert_turn(data: bytes, after: int) -> bytes:
    """An empty turn behind one, of the other speaker."""
    value = json.loads(data)
    messages = messages_of(value)
    role = "assistant" if messages[after]["role"] == "user" else "user"
    messages.insert(after + 1, {"role": role, "content": ""})
    return line_of(value)


def add_system(data: bytes) -> bytes:
    """An empty system prompt as the first message, unless there is one."""
    value = json.loads(data)
    messages = messages_of(value)
    if not messages or messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": ""})
    return line_of(value)


def delete_turn(data: bytes, turn: int) -> bytes:
    """The line without a turn."""
    value = json.loads(data)
    del messages_of(value)[turn]
    return line_of(value)


def move_turn(data: bytes, turn: int, by: int) -> bytes:
    """The turn `by` places further down; unchanged at the edge."""
    value = json.loads(data)
    messages = messages_of(value)
    target = turn + by
    if 0 <= target < len(messages):
        messages[turn], messages[target] = messages[target], messages[turn]
    return line_of(value)


def add_calculation(data: bytes, turn: int) -> bytes:
    """A calculation and its result at the end of an assistant's turn, as parts."""
    value = json.loads(data)
    message = messages_of(value)[turn]
    parts = message["content"]
    if isinstance(parts, str):
        parts = [{"type": "text", "text": parts}] if parts else []
    message["content"] = [*parts, {"type": "python", "text": ""}, {"type": "python_output", "text": ""}]
    return line_of(value)


def delete_part(data: bytes, turn: int, part: int) -> bytes:
    """Without one part; a single text part that is left becomes plain text."""
    value = json.loads(data)
    message = messages_of(value)[turn]
    del message["content"][part]
    left = message["content"]
    if len(left) <= 1 and all(entry.get("type") == "text" for entry in left):
        message["content"] = left[0]["text"] if left else ""
    return line_of(value)


PART_LABELS = {
    "text": "Text",
    "python": "Calculation (the model writes it)",
    "python_output": "Result (the calculator answers; not learned)",
}
