"""The rules by which a faulty conversation is repaired. Each says what it did; nothing is lost without a word."""

import math
from collections.abc import Callable
from typing import Any

from nanochat_core.data.formats.record import read_record, recognise
from nanochat_core.data.formats.turns import import_message
from nanochat_core.system.words import whole
from nanochat_core.tokenizer.messages import joined

Note = Callable[[str], Any]
"""Is told, in a few words, what a rule has changed."""

_NAMES = 'gave roles and contents the names that nanochat uses (such as "user" for "human" or "User")'


def repair_conversation(value: Any, note: Note) -> Any:
    """`value` as {"messages": [...]}, repaired as far as the rules go; the caller judges whether that is enough.

    ValueError when it is in a known layout whose contents cannot be imported.
    """
    if isinstance(value, list):
        note('put {"messages": ...} around a bare list of messages')
        value = {"messages": value}
    if (found := read_record(value)) is not None:
        name = recognise(value)
        beside = "brought into the messages what stood beside them" if len(found.used) > 1 else _NAMES
        note(f"imported from the {name} format" if name else beside)
        for what in found.notes:
            note(what)
        own = {key: entry for key, entry in value.items() if key not in found.used}
        value = {**own, "messages": found.messages}
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        return value
    messages = [_repair_message(message, note) for message in value["messages"]]
    return {**value, "messages": _drop_edges(_joined(messages, note), note)}


def _joined(messages: list[Any], note: Note) -> list[Any]:
    together = joined(messages)
    if len(together) < len(messages):
        note("joined neighbouring messages of one role, with an empty line between them")
    return together


def _repair_message(message: Any, note: Note) -> Any:
    if not isinstance(message, dict):
        return message
    imported = import_message(message)
    content, was = imported.get("content"), message.get("content", imported.get("content"))
    if isinstance(was, list) and isinstance(content, str):
        note("joined the text parts of a message, with line breaks between them")
    if {**imported, "content": None} != {**message, "content": None} or (content != was and not isinstance(was, list)):
        note(_NAMES)
    if "content" in imported:
        imported["content"] = _repair_content(content, note)
    return imported


def _repair_content(content: Any, note: Note) -> Any:
    if isinstance(content, int | float) and not isinstance(content, bool) and math.isfinite(content):
        note("put a number that stood for a text in quotes")
        return str(content)
    if isinstance(content, str):
        return _whole_characters(content, note)
    if isinstance(content, list):
        return [
            {**part, "text": _whole_characters(part["text"], note)}
            if isinstance(part, dict) and isinstance(part.get("text"), str)
            else part
            for part in content
        ]
    return content


def _whole_characters(text: str, note: Note) -> str:
    """Half a surrogate pair stands for nothing: what is left of an emoji that some program cut in two."""
    repaired = whole(text, "")
    if repaired != text:
        note("removed halves of characters (broken emoji)")
    return repaired


def _drop_edges(messages: list[Any], note: Note) -> list[Any]:
    """Without a first message of the assistant and a last one of the user, if at least one exchange remains.

    The alternative is to leave the whole conversation out, which loses more.
    """
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    start = 1 if roles[:1] == ["system"] else 0
    end = len(messages)
    first = start + 1 if roles[start : start + 1] == ["assistant"] else start
    if roles[end - 1 : end] == ["user"]:
        end -= 1
    if end - first < 2:
        return messages
    if first > start:
        note("DROPPED a first message of the assistant, since the user must speak first")
    if end < len(messages):
        note("DROPPED a last message of the user, which has no answer")
    if start < first and end < len(messages):
        note("LOOK whether user and assistant are swapped: the assistant spoke first, and the user last")
    return messages[:start] + messages[first:end]
