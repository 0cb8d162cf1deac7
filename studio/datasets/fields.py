"""Which field of the page holds which text of a conversation, however its turns are moved meanwhile.

A field has a name that no other one ever has. It stays with its turn through every edit of the turns, and a line that
came about in any other way (undo, a repair, JSON) gets new names: late keys from an old page then find no field, and
are told so, instead of landing in another turn.
"""

import itertools
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nanochat_core.system.words import whole
from studio.datasets.edit import editable, messages_of, set_text
from studio.datasets.session import Session

_MARK = "\0field"
_process = secrets.token_hex(4)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class TurnNames:
    """The names of one turn's fields."""

    turn: str
    """The name of the turn itself, and of its text when it has no parts."""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Typed:
    """What was typed into one field."""

    name: str
    turn: int
    part: int | None
    """Where the field was when it was drawn."""
    before: str
    """What the page took for the app's text before."""
    text: str


def names_of(session: Session, row: int) -> list[TurnNames]:
    """The names of the fields of a conversation that can be shown as turns."""
    with session.lock:
        data = session.rows.data[row]
        known = session.field_names.get(row)
        if known is None or known[0] != data:
            session.field_names[row] = (data, [_names(message) for message in messages_of(json.loads(data))])
        return session.field_names[row][1]


def turn_of(session: Session, row: int, name: str) -> int:
    """Where the turn of that name is now. ValueError when it is gone."""
    for turn, names in enumerate(names_of(session, row) if editable(session.rows.data[row]) else []):
        if name == names.turn or name in names.parts:
            return turn
    raise ValueError("This turn has changed meanwhile: look at it again, and then repeat your click.")


def change(session: Session, row: int, what: str, function: Callable[..., bytes], *arguments: Any) -> None:
    """Apply one of conversation_edit's functions to a row; the turns that stay keep their names."""
    with session.lock:
        data = session.rows.data[row]
        marked = json.loads(data)
        for message, names in zip(messages_of(marked), names_of(session, row), strict=True):
            _mark(message, names)
        after = messages_of(json.loads(function(json.dumps(marked).encode(), *arguments)))
        session.set_line(row, function(data, *arguments), what)
        session.field_names[row] = (session.rows.data[row], [_names(message) for message in after])


def type_text(session: Session, row: int, typed: Typed) -> bool:
    """Put a text where its field is now; False when there is no such field any more.

    After a restart of the app the names are others: then the place counts, if it holds what the page knew of it, or
    this text already, whose arrival the page has not heard of.
    """
    with session.lock:
        if not session.has(row) or editable(session.rows.data[row]) is None:
            return False
        place = _place(session, row, typed)
        if place is None:
            return False
        put_text(session, row, *place, typed.text)
        return True


def put_text(session: Session, row: int, turn: int, part: int | None, text: str) -> None:
    """Store what is being typed; a whole stretch of typing in one field is one step of undo."""
    with session.lock:
        names = names_of(session, row)
        data = set_text(session.rows.data[row], turn, part, whole(text, ""))
        name = names[turn].turn if part is None else names[turn].parts[part]
        session.set_line(row, data, f"typing in turn {turn + 1}", key=(row, name))
        session.field_names[row] = (session.rows.data[row], names)


def _place(session: Session, row: int, typed: Typed) -> tuple[int, int | None] | None:
    for turn, names in enumerate(names_of(session, row)):
        if typed.name == names.turn and not names.parts:
            return turn, None
        if typed.name in names.parts:
            return turn, names.parts.index(typed.name)
    messages = messages_of(json.loads(session.rows.data[row]))
    is_old = not typed.name.startswith(_process)
    is_there = _text_at(messages, typed.turn, typed.part) in (typed.before, typed.text)
    return (typed.turn, typed.part) if is_old and is_there else None


def _text_at(messages: list[dict[str, Any]], turn: int, part: int | None) -> str | None:
    content = messages[turn]["content"] if 0 <= turn < len(messages) else None
    if part is None:
        return content if isinstance(content, str) else None
    return content[part]["text"] if isinstance(content, list) and 0 <= part < len(content) else None


def _new() -> str:
    return f"{_process}-{next(_numbers)}"


def _mark(message: dict[str, Any], names: TurnNames) -> None:
    message[_MARK] = names.turn
    for part, name in zip(message["content"] if names.parts else (), names.parts, strict=True):
        part[_MARK] = name


def _names(message: dict[str, Any]) -> TurnNames:
    """The names that a message was marked with, and new ones for what is new."""
    content = message["content"]
    parts = tuple(part.get(_MARK) or _new() for part in content) if isinstance(content, list) else ()
    return TurnNames(message.get(_MARK) or _new(), parts)
