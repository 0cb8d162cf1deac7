"""Rows that belong together: turns of one talk, or rows that answer another row, become one conversation a branch."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from nanochat_core.data.formats import names
from nanochat_core.data.formats.columns import pair_of
from nanochat_core.data.formats.names import plain
from nanochat_core.data.formats.record import read_record
from nanochat_core.data.formats.turns import import_message
from nanochat_core.system.words import plural

Numbered = tuple[int, dict[str, Any]]
"""A row with its line."""


class Joined(NamedTuple):
    """Rows as conversations."""

    rows: list[Numbered]
    notes: list[str]
    """What a person should know of it, in sentences."""


def belong_together(record: Any) -> bool:
    """Whether such a record is a row that another row continues, or one turn of a talk that others belong to."""
    if not isinstance(record, dict) or "messages" in record:
        return False
    there = {plain(key) for key in record}
    is_turn = bool(there & set(names.SPEAKERS)) and bool(there & set(names.SAID))
    if there & set(names.PARENTS) and there & set(names.IDS):
        return is_turn or read_quietly(record) is not None
    if there & set(names.TALKS_OF_PAIRS) and not there & {*names.TURNS, *names.HISTORIES}:
        return is_turn or pair_of(there) is not None
    return is_turn and bool(there & set(names.TALKS))


def read_quietly(record: dict[str, Any]) -> list[Any] | None:
    """The messages of a row that is a record or a turn; None when it cannot be read."""
    try:
        found = read_record(record)
    except ValueError:
        return None
    if found is not None:
        own = {key: value for key, value in record.items() if key not in found.used and plain(key) not in _BOOKKEEPING}
        return _with_own(found.messages, own)
    message = import_message(record)
    if not ("role" in message and "content" in message):
        return None
    return [{key: value for key, value in message.items() if plain(key) not in _BOOKKEEPING}]


def _with_own(messages: list[Any], own: dict[str, Any]) -> list[Any]:
    """The messages of a row, its other keys beside its answer: a verdict or a mark is one on this answer."""
    last = messages[-1] if messages else None
    return [*messages[:-1], {**own, **last}] if own and isinstance(last, dict) else messages


_BOOKKEEPING = {*names.PARENTS, *names.IDS, *names.TALKS}


def joined_rows(rows: Iterable[Numbered]) -> Joined:
    """The rows as conversations, one for each branch that ends; an answer that two branches share is learned once."""
    rows = list(rows)
    by_parent = any(_value(record, names.PARENTS) is not None for _, record in rows)
    if not by_parent:
        return _by_talk(rows)
    by_id = {_value(record, names.IDS): place for place, (_, record) in enumerate(rows)}
    parents = [_value(record, names.PARENTS) for _, record in rows]
    parent_of = [by_id.get(parent) for parent in parents]
    leaves = set(range(len(rows))) - {place for place in parent_of if place is not None}
    learned: set[int] = set()
    joined = []
    for leaf in sorted(leaves):
        branch: list[int] = []
        place: int | None = leaf
        while place is not None and place not in branch:
            branch.append(place)
            place = parent_of[place]
        joined.append((rows[leaf][0], {"messages": _messages(rows, branch[::-1], learned)}))
        learned.update(branch)
    circles = [row for place, row in enumerate(rows) if place not in learned]  # judged as they are
    lost = [line for parent, place, (line, _) in zip(parents, parent_of, rows) if parent is not None and place is None]
    return Joined(joined + circles, _lost_note(lost))


def _lost_note(lines: list[int]) -> list[str]:
    if not lines:
        return []
    where = f"{'line' if len(lines) == 1 else 'the first on line'} {lines[0]:,}"
    return [
        f"BEGUN IN THE MIDDLE, since a row answers one that is not in the file: {plural(len(lines), 'row')} ({where})."
    ]


def _by_talk(rows: list[Numbered]) -> Joined:
    talks: dict[Any, list[int]] = {}
    for place, (_, record) in enumerate(rows):
        talk = _value(record, names.TALKS)
        talks.setdefault(place if talk is None else talk, []).append(place)  # a row of no talk stands alone
    keys: dict[str, None] = {}
    joined = []
    for places in talks.values():
        key, in_order = _in_order(rows, places)
        if in_order != places:
            keys[key] = None
        joined.append((rows[places[0]][0], {"messages": _messages(rows, in_order, set())}))
    return Joined(joined, [f'Put the rows of a conversation in the order of their "{key}".' for key in keys])


def _in_order(rows: list[Numbered], places: list[int]) -> tuple[str, list[int]]:
    """(the key that tells the order, the places by it); ("", as they stand) where no key does."""
    for name in names.ORDERS:
        found = [_place_in_talk(_value(rows[place][1], (name,)), name) for place in places]
        if None not in found and len({type(one) for one in found}) == 1 and len(set(found)) > 1:
            return name, [place for _, place in sorted(zip(found, places), key=lambda pair: pair[0])]
    return "", places


def _place_in_talk(value: str | None, name: str) -> Any:
    """A number, or a time that sorts as it is written; None for what does not tell."""
    if value is None or (name in _TIMES and _SORTED_TIME.match(value)):
        return value
    try:
        return float(value)
    except ValueError:
        return None


_TIMES = names.ORDERS[names.ORDERS.index("timestamp") :]
_SORTED_TIME = re.compile(r"\d{4}-\d\d-\d\d")


def _messages(rows: list[Numbered], branch: list[int], learned: set[int]) -> list[Any]:
    messages: list[Any] = []
    for place in branch:
        found = read_quietly(rows[place][1])
        for message in [rows[place][1]] if found is None else found:
            if messages and message == messages[0] and isinstance(message, dict) and message.get("role") == "system":
                continue  # which a table repeats in every row
            is_again = place in learned and isinstance(message, dict) and message.get("role") == "assistant"
            messages.append({**message, "train": False} if is_again else message)
    return messages


def _value(record: dict[str, Any], keys: Iterable[str]) -> Any:
    """What stands under the first of the names; None for nothing."""
    fields = {plain(key): value for key, value in record.items()}
    found = next((fields[name] for name in keys if fields.get(name) not in (None, "")), None)
    return str(found) if found is not None else None
