"""Twelve rows, and folds of them that are made up: one row does not fit its question."""

from pathlib import Path

import numpy as np

from nanochat_core.rows.kept_folds import KeptFolds, digest_of
from nanochat_core.rows.losses import FoldLosses
from nanochat_core.rows.row import lines_of, read_rows
from tests.support.planted import cafe, write


def write_twelve(home: Path) -> Path:
    """data/mine.jsonl."""
    path = home / "data" / "mine.jsonl"
    path.parent.mkdir(exist_ok=True)
    return write(path, [one for one in cafe() if len(one["messages"]) == 2][:12])


def made_up(data: Path) -> KeptFolds:
    """The answer of line 4 fits its question worse than that of line 8 does."""
    rows, _ = read_rows(data)
    losses = FoldLosses.empty(np.arange(12))
    losses.base[:], losses.own[:], losses.elsewhere[:], losses.rival[:], losses.doubt[:] = 5.0, 0.5, 4.0, 3.0, 0.3
    losses.own[3], losses.rival[3], losses.rival_row[3], losses.doubt[3] = 4.2, 0.6, 7, 0.98
    return KeptFolds({"folds": 2}, tuple(map(digest_of, lines_of(data, rows))), losses, done=(0, 1))
