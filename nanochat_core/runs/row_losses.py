"""How well a run's model knew each row of its data when it met it: written by the trainer step by step, read as tables.

A line of the file holds a step's conversations: their number in the data file from 0, nats, and supervised tokens. In
epoch 1 a row's loss is one of text that the model has not seen: what a row teaches, and whether it fits the others,
shows there without a further pass.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanochat_core.runs import metrics
from nanochat_core.system.files import write_atomically


@dataclass(frozen=True)
class RowLosses:
    """What a run has recorded, an entry for each conversation of its data file."""

    first: np.ndarray
    """float64 (N,): nats a supervised token at the first visit, NaN for one that was never trained on."""
    first_step: np.ndarray
    """int64 (N,): the step of it, from 1; 0 for none."""
    last: np.ndarray
    """As `first`, at the newest visit."""
    slow: np.ndarray
    """float64 (N,): how slowly it was learnt: the mean, over its visits but the first, of its loss in medians of all
    rows' at that visit; NaN for one that was not seen twice."""
    visits: np.ndarray
    """int64 (N,): how often it was trained on."""
    validates: np.ndarray
    """bool (N,): whether it is one of those that the run validates with."""

    def __len__(self) -> int:
        return len(self.first)


def begin(path: Path, conversations: int, validation: Iterable[int]) -> None:
    """A new record of a training on a file of so many conversations, of which these validate."""
    head = {"step": 0, "conversations": conversations, "validation": list(validation)}
    write_atomically(path, json.dumps(head).encode() + b"\n")


def note(path: Path, step: int, losses: Iterable[tuple[int, float, int]]) -> None:
    """Append a step, counted from 1: (number of the conversation, nats, supervised tokens) of each."""
    rows = [[index, round(nats, 4), tokens] for index, nats, tokens in losses]
    metrics.append(path, {"step": step, "rows": rows})


def read(path: Path) -> RowLosses | None:
    """The record; None when there is none, as of a run of before."""
    lines = metrics.lines(path)
    head = next(lines, {})
    if not isinstance(head.get("conversations"), int):
        return None
    count = head["conversations"]
    validates = np.zeros(count, bool)
    validates[head.get("validation", [])] = True
    first_step, visits = np.zeros(count, np.int64), np.zeros(count, np.int64)
    by_visit: list[np.ndarray] = []
    for line in lines:
        for index, nats, tokens in line.get("rows", ()):
            if nats is None or not tokens:
                continue
            if visits[index] == len(by_visit):
                by_visit.append(np.full(count, np.nan))
            by_visit[visits[index]][index] = nats / tokens
            if not visits[index]:
                first_step[index] = line["step"]
            visits[index] += 1
    first = by_visit[0] if by_visit else np.full(count, np.nan)
    last = np.full(count, np.nan)
    for losses in by_visit:
        last = np.where(np.isnan(losses), last, losses)
    return RowLosses(first, first_step, last, _slow(by_visit[1:], count), visits, validates)


def _slow(later: Sequence[np.ndarray], count: int) -> np.ndarray:
    total, seen = np.zeros(count), np.zeros(count)
    for losses in later:
        total += np.nan_to_num(losses) / max(float(np.nanmedian(losses)), 1e-3)
        seen += ~np.isnan(losses)
    return np.divide(total, seen, out=np.full(count, np.nan), where=seen > 0)
