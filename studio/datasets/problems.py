"""The problems of an opened dataset: what `check` would say of it, by row and by kind, and what one click can do."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from nanochat_core.data.report import Fault
from studio.datasets.fixes import FIXES
from studio.datasets.index import name_of
from studio.datasets.rows import Rows

REPEATED = "repeated_conversation"
LISTED = 30
"""Problems that are listed at once."""


@dataclass(frozen=True)
class RowProblem:
    """A problem of one row."""

    row: int
    name: str
    """`line 7`, or `new`."""
    fault: Fault


def problems_of(rows: Rows, row: int) -> list[Fault]:
    """Everything wrong with one row, repetition included."""
    faults = rows.all_faults(row)
    if (first := rows.repeats().get(row)) is not None:
        message = f"This conversation is the same as the one on {name_of(rows, first)}."
        faults.append(Fault("warning", REPEATED, message, "Remove it unless it should count twice."))
    return faults


def count_kinds(rows: Rows) -> Counter[str]:
    """How many problems there are of each kind, errors first, then by number."""
    counts: Counter[str] = Counter()
    errors = set()
    in_dataset = set(rows.order)
    for row in {*rows.faults, *rows.length_faults} & in_dataset:
        for fault in rows.all_faults(row):
            counts[fault.kind] += 1
            errors |= {fault.kind} if fault.level == "error" else set()
    if repeats := len(rows.repeats()):
        counts[REPEATED] = repeats
    return Counter(dict(sorted(counts.items(), key=lambda item: (item[0] not in errors, -item[1], item[0]))))


def count_errors(rows: Rows) -> int:
    """Rows of the dataset that hinder the training."""
    return sum(any(fault.level == "error" for fault in rows.all_faults(row)) for row in _suspects(rows))


def find_problems(rows: Rows, kind: str = "") -> Iterator[RowProblem]:
    """The problems in the order of the dataset, all or those of one kind."""
    suspects = {*rows.faults, *rows.length_faults, *rows.repeats()}
    for row in rows.order:
        if row in suspects:
            for fault in problems_of(rows, row):
                if not kind or fault.kind == kind:
                    yield RowProblem(row, name_of(rows, row), fault)


def first_problems(rows: Rows, kind: str = "") -> list[RowProblem]:
    """The problems that the page lists."""
    return list(islice(find_problems(rows, kind), LISTED))


def fixable_rows(rows: Rows) -> list[int]:
    """The rows of which a rule can fix something, in the order of the dataset."""
    fixable = {row for row, faults in rows.faults.items() if any(fault.can_fix for fault in faults)}
    return [row for row in rows.order if row in fixable]


def rows_with(rows: Rows, kind: str) -> list[int]:
    """Each row that has a problem of this kind, once."""
    return list(dict.fromkeys(problem.row for problem in find_problems(rows, kind)))


def _suspects(rows: Rows) -> list[int]:
    found = {*rows.faults, *rows.length_faults}
    return [row for row in rows.order if row in found]


def kind_words(kind: str) -> str:
    """`not_json` as `not json`."""
    return kind.replace("_", " ")


def fix_label(kind: str) -> str:
    """What one click does about this kind; "" when it has to be fixed by hand."""
    return FIXES[kind].label if kind in FIXES else ""
