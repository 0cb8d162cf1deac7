"""The rules by which a faulty conversation is repaired. Each says what it did; nothing is lost without a word."""

import math
from collections.abc import Callable
from typing import Any

from nanochat_core.data.formats.record import read_record, recognise
from nanochat_core.data.formats.turns import import_message
from nanochat_core.data.notes import Note
from nanochat_core.system.words import whole
from nanochat_core.tokenizer.messages import joined

Tell = Callable[[Note], Any]
"""Is told what a rule has changed."""

_NAMES = 'gave roles and contents the names that nanochat uses (such as "user" for "human" or "User")'


def repair_conversation(value: Any, tell: Tell) -> Any:
    """`value` as {"messages": [...]}, repaired as far as the rules go; the caller judges whether that is enough.

    ValueError when it is in a known layout whose contents cannot be imported.
    """
    if isinstance(value, list):
        tell(Note('put {"messages": ...} around a bare list of messages'))
        value = {"messages": value}
    if (found := read_record(value)) is not None:
        name = recognise(value)
        beside = "brought into the messages what stood beside them" if len(found.used) > 1 else _NAMES
        tell(Note(f"imported from the {name} format" if name else beside))
        for what in found.notes:
            tell(what)
        own = {key: entry for key, entry in value.items() if key not in found.used}
        value = {**own, "messages": found.messages}
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        return value
    messages = [_repair_message(message, tell) for message in value["messages"]]
    return {**value, "messages": _drop_edges(_joined(messages, tell), tell)}


def _joined(messages: list[Any], tell: Tell) -> list[Any]:
    together = joined(messages)
    if len(together) < len(messages):
        tell(Note("joined neighbouring messages of one role, with an empty line between them"))
    return together


def _repair_message(message: Any, tell: Tell) -> Any:
    if not isinstance(message, dict):
        return message
    imported = import_message(message)
    content, was = imported.get("content"), message.get("content", imported.get("content"))
    if isinstance(was, list) and isinstance(content, str):
        tell(Note("joined the text parts of a message, with line breaks between them"))
    if {**imported, "content": None} != {**message, "content": None} or (content != was and not isinstance(was, list)):
        tell(Note(_NAMES))
    if "content" in imported:
        imported["content"] = _repair_content(content, tell)
    return imported


def _repair_content(content: Any, tell: Tell) -> Any:
    if isinstance(content, int | float) and not isinstance(content, bool) and math.isfinite(content):
        tell(Note("put a number that stood for a text in quotes"))
        return str(content)
    if isinstance(content, str):
        return _whole_characters(content, tell)
    if isinstance(content, list):
        return [
            {**part, "text": _whole_characters(part["text"], tell)}
            if isinstance(part, dict) and isinstance(part.get("text"), str)
            else part
            for part in content
        ]
    return content


def _whole_characters(text: str, tell: Tell) -> str:
    """Half a surrogate pair stands for nothing: what is left of an emoji that some program cut in two."""
    repaired = whole(text, "")
    if repaired != text:
        tell(Note("removed halves of characters (broken emoji)"))
    return repaired


def _drop_edges(messages: list[Any], tell: Tell) -> list[Any]:
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
        tell(Note("DROPPED a first message of the assistant, since the user must speak first", matters=True))
    if end < len(messages):
        tell(Note("DROPPED a last message of the user, which has no answer", matters=True))
    if start < first and end < len(messages):
        tell(
            Note(
                "LOOK whether user and assistant are swapped: the assistant spoke first, and the user last",
                matters=True,
            )
        )
    return messages[:start] + messages[first:end]
