"""What a run tells of rows as they are now: how it has learnt them, and what folds that it has kept say of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nanochat_core.rows.findings import Finding
from nanochat_core.rows.kept_folds import kept_folds
from nanochat_core.rows.losses import findings_of_folds, findings_of_run
from nanochat_core.rows.record import record_of
from nanochat_core.rows.row import Row
from nanochat_core.runs.run import Run


@dataclass(frozen=True)
class Told:
    """For the review of the rows."""

    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    """What to know of it, as sentences."""
    validating: list[int] | None = None
    """Places of the rows that the run validates with; None when it has no record of that."""


def told_by(run: Run, rows: Sequence[Row], lines: Sequence[bytes], folds: int = 0) -> Told:
    """What the run tells of these rows, whose lines are `lines`.

    folds: take the kept folds of so many; 0 for the newest. ValueError when it has neither a record nor folds of them.
    """
    kept = kept_folds(run, folds)
    try:
        record = record_of(run, lines)
    except ValueError as error:
        if kept is None:
            raise
        told = Told([], [str(error)])
    else:
        told = Told([*findings_of_run(rows, record.losses)], [*record.notes], record.validating)
    if kept is None:
        return told
    losses, notes = kept.of_rows(lines)
    return Told(both(told.findings, [*findings_of_folds(rows, losses)]), [*told.notes, *notes], told.validating)


def both(some: Sequence[Finding], others: Sequence[Finding]) -> list[Finding]:
    """All findings; what both say of the same rows is one, with the reasons of both, and the graver's score."""
    found = {(one.kind, one.lines): one for one in some}
    for one in others:
        same = found.get((one.kind, one.lines))
        if same is not None:
            one = Finding(one.kind, one.lines, f"{same.reason} {one.reason}", max(same.score, one.score))
        found[one.kind, one.lines] = one
    return [*found.values()]
