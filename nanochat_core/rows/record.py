"""A run's record of its rows, for the rows of a data file as they are now: found again by their content."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nanochat_core.runs import row_losses
from nanochat_core.runs.row_losses import RowLosses
from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import kept_lines
from nanochat_core.system.words import plural


@dataclass(frozen=True)
class Record:
    """What a run knows of some rows."""

    losses: RowLosses
    """An entry for each of the rows; of those that it never had, no visits."""
    notes: tuple[str, ...] = ()
    """What to know of it, as sentences."""
    validating: list[int] = field(default_factory=list)
    """Places of the rows that the run validates with."""


def record_of(run: Run, lines: Sequence[bytes]) -> Record:
    """The run's record of these lines of JSON. ValueError when the run has none of them, or no record."""
    losses = row_losses.read(run.rows_file)
    if losses is None and run.is_remote():
        raise ValueError(
            f"The record of the rows of run '{run.tag}' is not here: it comes from the rented machine when the job is "
            "over. Runs of before have none."
        )
    if losses is None:
        raise ValueError(
            f"Run '{run.tag}' has no record of its rows: runs write one from now on. Train again to have it."
        )
    known_lines = [line for number, (_, line) in enumerate(kept_lines(run)) if number < len(losses)]
    which = np.array(found_again([line.strip() for line in lines], known_lines), np.int64)
    known = which >= 0
    if not known.any():
        raise ValueError(f"Run '{run.tag}' was trained on none of these rows. Choose a run of this data.")
    unknown = len(lines) - int(known.sum())
    notes = (
        (f"{plural(unknown, 'row')} came or changed after run '{run.tag}': it says nothing of them.",)
        if unknown
        else ()
    )
    found = RowLosses(
        first=np.where(known, losses.first[which], np.nan),
        first_step=np.where(known, losses.first_step[which], 0),
        last=np.where(known, losses.last[which], np.nan),
        slow=np.where(known, losses.slow[which], np.nan),
        visits=np.where(known, losses.visits[which], 0),
        validates=known & losses.validates[which],
    )
    return Record(found, notes, np.flatnonzero(found.validates).tolist())


def found_again(now: Sequence[Hashable], then: Sequence[Hashable]) -> list[int]:
    """For each of `now` the place in `then` that has the same content, -1 for none.

    Of content that is there several times, the first is the first, the second the second: one of them may validate.
    """
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, content in enumerate(then):
        places[content].append(place)
    met: Counter[Hashable] = Counter()
    found = []
    for content in now:
        same = places.get(content)
        found.append(same[min(met[content], len(same) - 1)] if same else -1)
        met[content] += 1
    return found
