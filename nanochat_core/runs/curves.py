"""The metrics of runs as lists of points, read once: of a file that grows, only what is new."""

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nanochat_core.runs.run import Run

Point = tuple[float, float]
"""(x, y) of one value of a metric."""


@dataclass
class _File:
    """What is known of one metrics.jsonl."""

    mark: tuple[int, int] = (0, 0)
    """(inode, bytes read): a resumed run replaces the file by a shorter one."""
    rows: list[dict[str, Any]] = field(default_factory=list)


_files: dict[str, _File] = {}
_lock = threading.Lock()


def rows(run: Run) -> list[dict[str, Any]]:
    """All whole lines so far, in file order. The list is shared: do not change it."""
    with _lock:
        known = _files.setdefault(str(run.path), _File())
        try:
            with open(run.metrics_file, "rb") as file:
                _read_on(known, file)
        except FileNotFoundError:
            del _files[str(run.path)]
            return []
        return known.rows


def _read_on(known: _File, file: Any) -> None:
    stat = os.fstat(file.fileno())
    inode, position = known.mark
    if inode != stat.st_ino or stat.st_size < position:
        position, known.rows = 0, []
    file.seek(position)
    new = file.read(stat.st_size - position)
    whole = new[: new.rfind(b"\n") + 1]
    known.rows = known.rows + [row for line in whole.splitlines() if (row := _row(line))]
    known.mark = (stat.st_ino, position + len(whole))


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except ValueError:  # left by a killed process
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None


def points(rows: list[dict[str, Any]], key: str, x_axis: str = "step") -> list[Point]:
    """(x, value of `key`) of the lines that have both; x is step, epoch, tokens, or minutes since the first line."""
    start = next((row["time"] for row in rows if isinstance(row.get("time"), int | float)), 0.0)
    found, tokens = [], 0
    for row in rows:
        tokens = row.get("tokens", tokens)  # a validation's line has none of its own: it has those of the step before
        x = (row["time"] - start) / 60 if x_axis == "minutes" and row.get("time") is not None else row.get(x_axis)
        x = tokens if x_axis == "tokens" else x
        y = row.get(key)
        if isinstance(x, int | float) and isinstance(y, int | float):
            found.append((float(x), float(y)))
    return found


def last(rows: list[dict[str, Any]], key: str) -> float | None:
    """The newest value of `key`; None when there is none yet."""
    return next((row[key] for row in reversed(rows) if isinstance(row.get(key), int | float)), None)


def smooth(points: Sequence[Point], weight: float) -> list[Point]:
    """Exponential moving average with `weight` on the past, from 0 (as it is) to below 1; the start is unbiased."""
    average, total, smoothed = 0.0, 0.0, []
    for x, y in points:
        average, total = weight * average + (1 - weight) * y, weight * total + (1 - weight)
        smoothed.append((x, average / total))
    return smoothed
