"""From the bytes of one line to judged conversations: the decoder, the parser and the rules in one call."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from nanochat_core.data.formats.names import HELD_OUT
from nanochat_core.data.formats.record import recognise
from nanochat_core.data.json_faults import TOO_DEEP, read_json, read_several, repeated_keys
from nanochat_core.data.keys import is_silent
from nanochat_core.data.report import REPAIR, Fault
from nanochat_core.data.rules import judge, nests_too_deeply, ordinary_contents, surrogate_faults
from nanochat_core.data.text_marks import may_hold_marks
from nanochat_core.system.files import write_atomically
from nanochat_core.system.words import quoted

SEVERAL = ("several_objects", "old_line_ends", "comma_after_the_end")
"""Kinds of faults of a line whose objects can be read all the same, by `read_several`."""

Messages = list[dict[str, Any]]

_LINE_SEPARATORS = ("\x85", "\u2028", "\u2029")


def judge_line(data: bytes, column: int = 0) -> tuple[list[Messages], list[Fault], int]:
    """Judge one line: (the faultless conversations on it, its faults, how many line breaks before those faults).

    `column` bytes stand before it on its line. There is more than one conversation only when there is a fault too.
    """
    text, fault = decode(data)
    if fault:
        return [], [fault], 0
    value, fault, line = read_json(text, column)
    if fault:
        judged, faults = _judge_all(read_several(text) if fault.kind in SEVERAL else [])
        return judged, [fault, *faults], line
    messages = value.get("messages") if type(value) is dict else value
    contents = ordinary_contents(messages)
    if messages is not None and contents is not None and not _is_suspicious(text, value, contents):
        return [messages], [], 0
    if isinstance(value, dict | list) and nests_too_deeply(value):
        return [], [TOO_DEEP], 0
    if inner := array_of_conversations(value):
        judged, faults = _judge_all(inner)
        return judged, [array_fault("This line"), *faults], 0
    messages, faults = judge_value(value)
    if keys := repeated_keys(text):
        what = f"{', '.join(quoted(key, 20) for key in keys[:5])}: written twice in one object; the last one counts."
        faults.append(Fault("warning", "repeated_key", what, "Remove the one that is not meant."))
    return [] if messages is None else [messages], faults, 0


def decode(data: bytes) -> tuple[str, Fault | None]:
    """(the text, None), or ("", the fault) when the bytes are not UTF-8."""
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError as error:
        wrong = data[error.start]
        message = f"Byte {error.start + 1:,} of the line (0x{wrong:02X}) is not UTF-8"
        western = bytes([wrong]).decode("cp1252", errors="replace")
        if western.isprintable() and western != "\ufffd":
            message += f"; in the Windows-1252 encoding it would be {western}"
        return "", Fault("error", "not_utf8", f"{message}.", f"Save the file as UTF-8; where it can, {REPAIR}")


def judge_value(value: Any) -> tuple[Messages | None, list[Fault]]:
    """The rules of one conversation, and that its texts are whole characters."""
    messages, faults = judge(value)
    if messages is not None and (broken := surrogate_faults(messages)):
        return None, faults + broken
    return messages, faults


def array_of_conversations(value: Any) -> list[Any]:
    """The conversations when `value` is a list of them (not of messages), or an object around one; else []."""
    if isinstance(value, dict):
        return _wrapped(value)
    if not isinstance(value, list) or not value:
        return []
    return value if all(isinstance(item, list) or _is_conversation(item) for item in value) else []


_WRAPPERS = ("data", "rows", "examples", "train", "test", "validation", "dataset", "records", "samples", "results")
_TURN_WRAPPERS = ("conversations", "chats", "items", "dialogs")
"""Names that mean a list of conversations, or the turns of one."""


def _wrapped(value: dict[str, Any]) -> list[Any]:
    inner: list[Any] = []
    for name, items in () if "messages" in value else value.items():
        if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
            continue
        is_sure = all("messages" in item or "conversations" in item for item in items)
        names = (*_WRAPPERS, *_TURN_WRAPPERS) if is_sure else _WRAPPERS
        if name in names and all(map(_is_conversation, items)):
            # Where one list is for training, what the others are for is kept with their rows, so that it is said.
            is_held_out = name in HELD_OUT and "train" in value
            inner += [{"split": name, **item} for item in items] if is_held_out else items
    return inner


def array_fault(what: str = "The file") -> Fault:
    """A file or line that is one JSON array instead of lines."""
    fix = "Write one conversation on each line, without the array."
    return Fault("error", "json_array", f"{what} is one JSON array of conversations.", fix, can_fix=True)


def to_line(conversation: Any) -> bytes:
    """One conversation as a line of JSONL: readable UTF-8, but what some editors take for a line break is escaped."""
    try:
        text = json.dumps(conversation, ensure_ascii=False, allow_nan=False)
        for separator in _LINE_SEPARATORS:
            text = text.replace(separator, f"\\u{ord(separator):04x}")
        return text.encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: only its escape can be written
        return json.dumps(conversation, allow_nan=False).encode("ascii") + b"\n"


def write_data(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a data file, all or nothing. ValueError when the place cannot be written to."""
    try:
        write_atomically(path, write)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}. Choose another place, or make room.") from error


def _judge_all(values: list[Any]) -> tuple[list[Messages], list[Fault]]:
    judged, faults = [], []
    for number, value in enumerate(values, 1):
        messages, found = judge_value(value)
        judged += [messages] if messages is not None else []
        where = f"Conversation {number} of this line: " if len(values) > 1 else ""
        faults += [fault if fault.once else fault._replace(message=where + fault.message) for fault in found]
    return judged, faults


def _is_conversation(item: Any) -> bool:
    return isinstance(item, dict) and ("messages" in item or recognise(item) is not None)


def _is_suspicious(text: str, value: Any, contents: list[str]) -> bool:
    r"""Whether an ordinary conversation's JSON may hide repeated keys or half characters, which parsing has swallowed.

    A key occurs in quotes as often as there are messages, unless it is repeated, or is itself a text, or is
    written with escapes: those go the slow way, which decides. Half characters are written as \ud800 to \udfff.
    """
    count = len(contents)
    if may_hold_marks(text):
        return True
    # No quotes but those around "messages", "role", "content" and what they hold: no other keys.
    if text.count('"') == 8 * count + 2 * (type(value) is dict) and (
        all(map(str.isascii, contents)) or "\\u" not in text
    ):
        return False
    return (
        text.count('"role"') != count
        or text.count('"content"') != count
        or text.count('"messages"') > 1
        or ("\\u" in text and any(mark in text for mark in ("\\ud", "\\uD", "\\u006", "\\u007")))
        or (type(value) is dict and len(value) > 1 and not all(_is_plain(text, *entry) for entry in value.items()))
    )


def _is_plain(text: str, key: str, content: Any) -> bool:
    """An extra key beside the messages that needs no word: not nested, not repeated, of no meaning to the training."""
    if key == "messages":
        return True
    return is_silent(key, content) and text.count(f'"{key}"') == 1
