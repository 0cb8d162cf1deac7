"""Finding conversations in an opened dataset: search, filter, sort and one page of the result, at 100,000 rows too."""

from dataclasses import dataclass

import numpy as np

from nanochat_core.system.words import plural, whole
from studio.datasets.edit import editable, messages_of
from studio.datasets.rows import UNKNOWN, Rows

PAGE = 25
"""Conversations on a page."""

SHOW = {
    "all": "All",
    "problems": "With problems",
    "errors": "With errors",
    "repeated": "Repeated",
    "cut": "Cut off",
    "changed": "Changed here",
}
SORT = {
    "file": "Order of the file",
    "tokens": "Most tokens first",
    "-tokens": "Fewest tokens first",
    "turns": "Most turns first",
    "-turns": "Fewest turns first",
    "problems": "Most problems first",
}


@dataclass(frozen=True)
class Query:
    """What a person asks to see."""

    text: str = ""
    """Found in any message; upper and lower case are the same."""
    show: str = "all"
    sort: str = "file"


def find(rows: Rows, query: Query, changed: set[int], max_seq_len: int) -> list[int]:
    """The ids of the rows that match, sorted."""
    assert query.show in SHOW
    assert query.sort in SORT
    found = _shown(rows, query.show, changed, max_seq_len)
    if needle := query.text.strip().lower().encode("utf-8", "replace"):
        searched = rows.searched
        found = [row for row in found if needle in searched[row]]
    return found if query.sort == "file" else _sorted(rows, found, query.sort)


def _shown(rows: Rows, show: str, changed: set[int], max_seq_len: int) -> list[int]:
    if show == "all":
        return rows.order
    if show == "cut":
        ids = rows.ids()
        return ids[rows.column("tokens")[ids] > max_seq_len].tolist()
    if show == "errors":
        wanted = {row for row in (*rows.faults, *rows.length_faults) if _has_error(rows, row)}
    elif show == "problems":
        wanted = {*rows.faults, *rows.length_faults, *rows.repeats()}
    elif show == "repeated":
        wanted = set(rows.repeats())
    else:
        wanted = changed
    return [row for row in rows.order if row in wanted]


def _has_error(rows: Rows, row: int) -> bool:
    return any(fault.level == "error" for fault in rows.all_faults(row))


def _sorted(rows: Rows, found: list[int], sort: str) -> list[int]:
    """Stable, so that equal ones stay in the order of the file."""
    ids = np.array(found, dtype=np.int64)
    name = sort.removeprefix("-")
    facts = {"tokens": _sizes, "problems": problem_counts, "turns": lambda rows: rows.column("turns")}
    keys = facts[name](rows)[ids]
    return ids[np.argsort(keys if sort.startswith("-") else -keys, kind="stable")].tolist()


def _sizes(rows: Rows) -> np.ndarray:
    """Tokens by row; a quarter of the text's bytes where they have not been counted yet."""
    tokens = rows.column("tokens")
    for row in np.flatnonzero(tokens == UNKNOWN):
        tokens[row] = len(rows.searched[row]) // 4
    return tokens


def problem_counts(rows: Rows) -> np.ndarray:
    """Problems by row id."""
    counts = np.zeros(len(rows.data), dtype=np.int64)
    for row, faults in rows.faults.items():
        counts[row] += len(faults)
    for row in (*rows.length_faults, *rows.repeats()):
        counts[row] += 1
    return counts


@dataclass(frozen=True)
class Page:
    """One page of a result."""

    rows: list[tuple[int, str]]
    """(id, two lines of plain text that stand for it)."""
    number: int
    """From 0."""
    pages: int
    found: int


def page(rows: Rows, found: list[int], number: int) -> Page:
    """The page `number`, or the nearest that there is."""
    pages = max(1, -(-len(found) // PAGE))
    number = min(max(number, 0), pages - 1)
    shown = found[number * PAGE : (number + 1) * PAGE]
    return Page([(row, label_of(rows, row)) for row in shown], number, pages, len(found))


def label_of(rows: Rows, row: int) -> str:
    """The two lines that stand for a row in the list."""
    words = [name_of(rows, row)]
    problems = len(rows.all_faults(row)) + (row in rows.repeats())
    preview = _preview(rows, row)
    if rows.is_faulty(row):
        words.append("error")
    else:
        words.append(plural(rows.turns[row], "turn"))
        if rows.tokens[row] != UNKNOWN:
            words.append(plural(rows.tokens[row], "token"))
    if problems:
        words.append(plural(problems, "problem"))
    return f"{_shortened(preview)}\n{' · '.join(words)}"


def _preview(rows: Rows, row: int) -> str:
    """The first text; of a line that cannot be shown as turns, its beginning."""
    value = editable(rows.data[row])
    content = messages_of(value)[0]["content"] if value and messages_of(value) else None
    return content if isinstance(content, str) else rows.data[row][:400].decode("utf-8", "replace")


def name_of(rows: Rows, row: int) -> str:
    """`line 7`, or `new` for a row that is not in the file yet."""
    return f"line {rows.line[row]:,}" if rows.line[row] else "new"


def _shortened(text: str, limit: int = 90) -> str:
    text = " ".join(whole(text[: 4 * limit]).split())
    return f"{text[:limit]}…" if len(text) > limit else text or "(no text)"
