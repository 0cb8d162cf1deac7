"""Rows that belong together: turns of one talk, or rows that answer another row, become one conversation a branch."""

from collections.abc import Iterable
from typing import Any

from nanochat_core.data.formats import names
from nanochat_core.data.formats.names import plain
from nanochat_core.data.formats.record import read_record
from nanochat_core.data.formats.turns import import_message

Numbered = tuple[int, dict[str, Any]]
"""A row with its line."""


def belong_together(record: Any) -> bool:
    """Whether such a record is a row that another row continues, or one turn of a talk that others belong to."""
    if not isinstance(record, dict) or "messages" in record:
        return False
    there = {plain(key) for key in record}
    is_turn = bool(there & set(names.SPEAKERS)) and bool(there & set(names.SAID))
    if there & set(names.PARENTS) and there & set(names.IDS):
        return is_turn or read_quietly(record) is not None
    return is_turn and bool(there & set(names.TALKS))


def read_quietly(record: dict[str, Any]) -> list[Any] | None:
    """The messages of a row that is a record or a turn; None when it cannot be read."""
    try:
        found = read_record(record)
    except ValueError:
        return None
    if found is not None:
        return found.messages
    message = import_message(record)
    if not ("role" in message and "content" in message):
        return None
    return [{key: value for key, value in message.items() if plain(key) not in _BOOKKEEPING}]


_BOOKKEEPING = {*names.PARENTS, *names.IDS, *names.TALKS}


def joined_rows(rows: Iterable[Numbered]) -> list[Numbered]:
    """The rows as conversations, one for each branch that ends; an answer that two branches share is learned once."""
    rows = list(rows)
    by_parent = any(_value(record, names.PARENTS) is not None for _, record in rows)
    if not by_parent:
        return _by_talk(rows)
    by_id = {_value(record, names.IDS): place for place, (_, record) in enumerate(rows)}
    parent_of = [by_id.get(_value(record, names.PARENTS)) for _, record in rows]
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
    reached = learned | set(leaves)
    return joined + [row for place, row in enumerate(rows) if place not in reached]  # a circle: judged as it is


def _by_talk(rows: list[Numbered]) -> list[Numbered]:
    talks: dict[Any, list[int]] = {}
    for place, (_, record) in enumerate(rows):
        talks.setdefault(str(_value(record, names.TALKS)), []).append(place)
    return [(rows[places[0]][0], {"messages": _messages(rows, places, set())}) for places in talks.values()]


def _messages(rows: list[Numbered], branch: list[int], learned: set[int]) -> list[Any]:
    messages: list[Any] = []
    for place in branch:
        found = read_quietly(rows[place][1])
        for message in [rows[place][1]] if found is None else found:
            is_again = place in learned and isinstance(message, dict) and message.get("role") == "assistant"
            messages.append({**message, "train": False} if is_again else message)
    return messages


def _value(record: dict[str, Any], keys: Iterable[str]) -> Any:
    """What stands under the first of the names; None for nothing."""
    fields = {plain(key): value for key, value in record.items()}
    found = next((fields[name] for name in keys if fields.get(name) not in (None, "")), None)
    return str(found) if found is not None else None
