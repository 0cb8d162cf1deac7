"""What folds have found of a run's rows, kept in the run: after each fold, so that a stop loses none that is done.

Rows are found again by their content, so what is kept still holds for the rows that stay when others are edited.

evals/folds-*.json  asked {data, folds, base, ...}, made, done [folds], rows [digest of each row's line], answers {row,
                    base, own, elsewhere, rival, rival_row, doubt: [one number each]}
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from nanochat_core.rows.losses import FoldLosses
from nanochat_core.rows.record import found_again
from nanochat_core.runs.metrics import plain
from nanochat_core.runs.run import Run
from nanochat_core.system.files import now, read_json, write_json
from nanochat_core.system.words import plural


@dataclass(frozen=True)
class KeptFolds:
    """The losses of the folds that are done."""

    asked: dict[str, Any]
    """All that they depend on; `folds` is how many there are to be."""
    rows: tuple[str, ...]
    """A digest of each row's line."""
    losses: FoldLosses
    """By places in `rows`; NaN for the answers of folds that are not done."""
    done: tuple[int, ...] = ()
    made: str = ""

    @property
    def folds(self) -> int:
        """How many there are to be."""
        return int(self.asked["folds"])

    @property
    def is_whole(self) -> bool:
        """Whether all folds are done."""
        return len(self.done) == self.folds

    def of_rows(self, lines: Sequence[bytes]) -> tuple[FoldLosses, tuple[str, ...]]:
        """(the losses by places in `lines`, what to know of them): those of the rows that are as they were."""
        which = found_again([digest_of(line) for line in lines], self.rows)
        place_of = {number: place for place, number in reversed(list(enumerate(which))) if number >= 0}
        answers = defaultdict(list)
        for number, row in enumerate(self.losses.row.tolist()):
            answers[row].append(number)
        pairs = [(place, answer) for place, number in enumerate(which) for answer in answers[number]]
        chosen = np.array([answer for _, answer in pairs], np.int64)
        found = FoldLosses(*(getattr(self.losses, one.name)[chosen] for one in fields(FoldLosses)))
        rivals = np.array([place_of.get(row, -1) for row in found.rival_row.tolist()], np.int64)
        row = np.array([place for place, _ in pairs], np.int64)
        # An answer that a person has changed since is no rival any more.
        found = replace(found, row=row, rival_row=rivals, rival=np.where(rivals >= 0, found.rival, np.nan))
        return found, self._notes(which.count(-1))

    def _notes(self, unknown: int) -> tuple[str, ...]:
        notes = []
        if not self.is_whole:
            notes.append(f"{len(self.done)} of {self.folds} folds are done: the rows of the others are not judged yet.")
        if unknown:
            notes.append(
                f"{plural(unknown, 'row')} came or changed after the folds were made: they say nothing of them."
            )
        return tuple(notes)


def digest_of(line: bytes) -> str:
    """By which a row is found again."""
    return hashlib.sha256(line.strip()).hexdigest()[:24]


def keep_folds(run: Run, kept: KeptFolds) -> None:
    """Write what is done by now."""
    answers = {one.name: getattr(kept.losses, one.name).tolist() for one in fields(FoldLosses)}
    values = {"asked": kept.asked, "made": now(), "done": kept.done, "rows": kept.rows, "answers": answers}
    write_json(_path(run, kept.asked), plain(values))


def same_folds(run: Run, asked: dict[str, Any]) -> KeptFolds | None:
    """What the run has kept of the very same folds; of other runs, too, since they depend on the data alone."""
    for one in (run, *Run.list()):
        found = _read(_path(one, asked))
        if found is not None and found.asked == asked:
            return found
    return None


def kept_folds(run: Run, folds: int = 0) -> KeptFolds | None:
    """The newest folds that the run has kept, whole ones first; of so many folds where that is given."""
    every = [_read(path) for path in sorted(run.evals_dir.glob("folds-*.json"))]
    found = [one for one in every if one is not None and one.done and folds in (0, one.folds)]
    return max(found, key=lambda one: (one.is_whole, one.made), default=None)


def has_folds(run: Run) -> bool:
    """Whether there are any, without reading them."""
    return any(run.evals_dir.glob("folds-*.json"))


def _path(run: Run, asked: dict[str, Any]) -> Path:
    what = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return run.evals_dir / f"folds-{what[:12]}.json"


def _read(path: Path) -> KeptFolds | None:
    """None for what is not there, or is no such file."""
    values = read_json(path)
    try:
        columns = {
            one.name: np.array(values["answers"][one.name], np.int64 if "row" in one.name else np.float64)
            for one in fields(FoldLosses)
        }
        rows, done = tuple(map(str, values["rows"])), tuple(map(int, values["done"]))
        int(values["asked"]["folds"])
        return KeptFolds(dict(values["asked"]), rows, FoldLosses(**columns), done, str(values["made"]))
    except (KeyError, TypeError, ValueError):
        return None
