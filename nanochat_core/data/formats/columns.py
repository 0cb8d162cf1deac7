"""Which columns of a table are read, by their names alone.

By itself, since tables and the chains within them both ask.
"""

from collections.abc import Iterable

from nanochat_core.data.formats import names
from nanochat_core.data.formats.names import plain


def columns_read(columns: Iterable[str]) -> set[str]:
    """The columns of a table that a record of theirs could be read by; empty when they are of no known layout."""
    by_name = {plain(column): column for column in columns}
    known = {*names.TURNS, *names.QUESTIONS, *names.ANSWERS, *names.CHOSEN, *names.REJECTED, *names.SYSTEMS}
    known |= {*names.CONTEXTS, *names.HISTORIES, *names.OPTIONS, *"abcdefgh"}
    said = names.BAD_IF_FALSE | names.BAD_IF_TRUE | names.RATINGS | names.REASONING | names.TOOLS
    marks = {"weight", "train", "loss", "loss_weight"}
    if _are_turns(by_name):
        known |= {*names.SPEAKERS, *names.SAID, *names.PARENTS, *names.IDS, *names.TALKS}
    elif any(name in by_name for name in names.TURNS):
        known -= {*names.QUESTIONS, *names.ANSWERS} - {*names.CONTEXTS}
    elif not (pair_of(by_name) or any(name in by_name for name in names.CHOSEN)):
        return set()
    elif "instruction" in by_name:
        known.add("text")  # which it may be about
    if any(name in by_name for name in names.PARENTS):
        known |= {*names.PARENTS, *names.IDS}
    return {column for name, column in by_name.items() if name in known | said | marks}


def _are_turns(columns: Iterable[str]) -> bool:
    """Whether each row is one turn of a talk, which other columns name."""
    there = set(columns)
    return all(there & set(keys) for keys in (names.SPEAKERS, names.SAID, (*names.PARENTS, *names.TALKS)))


def pair_of(fields: Iterable[str]) -> tuple[str, str] | None:
    """(question, answer) among the names of keys; None when one of them is missing."""
    there = set(fields)
    answer = next((name for name in names.ANSWERS if name in there), None)
    asked = [name for name in (*names.QUESTIONS, "message") if name in there and name != answer]
    if answer not in ("assistant", "gpt", "bot") or "message" in there:  # `user, message, reply`: who, what, and then
        asked = [name for name in asked if name not in names.PEOPLE] or asked
    return (asked[0], answer) if asked and answer else None
