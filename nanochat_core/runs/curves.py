"""The losses of runs as the lines of a chart, read once: of a file that grows, only what is new."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nanochat_core.runs.metrics import parsed
from nanochat_core.show.palette import X_LABELS, Point, Series

if TYPE_CHECKING:
    from nanochat_core.show.charts import Chart

SMOOTHING = 0.8
"""Weight of the past in the smoothed line of a picture."""

WHICH = ("Both", "Training", "Validation", "Distance")
"""What a chart of losses may show."""
DISTANCE = "distance from the base"
"""kl_from_base in a legend."""


class Measured(Protocol):
    """A run, as far as its curves need it."""

    @property
    def tag(self) -> str:
        """The run's name."""

    @property
    def metrics_file(self) -> Path:
        """Its metrics.jsonl."""


@dataclass
class _File:
    """What is known of one metrics.jsonl."""

    mark: tuple[int, int] = (0, 0)
    """(inode, bytes read): a resumed run replaces the file by a shorter one."""
    rows: list[dict[str, Any]] = field(default_factory=list)


_files: dict[str, _File] = {}
_lock = threading.Lock()


def rows(run: Measured) -> list[dict[str, Any]]:
    """All whole lines so far, in file order. The list is shared: do not change it."""
    with _lock:
        known = _files.setdefault(str(run.metrics_file), _File())
        try:
            with open(run.metrics_file, "rb") as file:
                _read_on(known, file)
        except FileNotFoundError:
            del _files[str(run.metrics_file)]
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
    known.rows = known.rows + [row for line in whole.splitlines() if (row := parsed(line))]
    known.mark = (stat.st_ino, position + len(whole))


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


def losses(
    run: Measured, x_axis: str = "step", smoothing: float = 0.0, which: str = "Both", place: int | None = None
) -> list[Series]:
    """The lines of a run's losses: training and validation (Both), or one of WHICH.

    place: that of the run among several in one chart, where each has one colour, its training dashed and only
    smoothed. Alone, training is drawn as measured, too, and with both comes the distance from the base.
    """
    known, several = rows(run), place is not None
    name, colour = (f"{run.tag}, ", place) if place is not None else ("", 0)
    lines = []
    if which in ("Both", "Training"):
        train = points(known, "train_loss", x_axis)
        if several or not smoothing:
            style = "dashed" if several else ""
            lines.append(Series(f"{name}training", smooth(train, smoothing), colour, style))
        else:
            lines.append(Series("training", train, colour, "faint"))
            lines.append(Series("training, smoothed", smooth(train, smoothing), colour))
    if which in ("Both", "Validation"):
        validation = points(known, "val_loss", x_axis)
        best = _best(known) if validation else ""
        lines.append(Series(f"{name}validation", validation, colour if several else 1, best=best))
    if which == "Distance" or (which == "Both" and not several):
        distance = points(known, "kl_from_base", x_axis)
        at = colour if several else 2
        lines += [Series(f"{name}{DISTANCE}", distance, at, "dashed", apart=True)] if distance else []
    return lines


def _best(rows: list[dict[str, Any]]) -> str:
    step, loss = min(points(rows, "val_loss"), key=lambda point: point[1])
    return f"best {loss:.4f} at step {step:.0f}"


def plot_runs(*runs: Measured, x: str = "step", smoothing: float = SMOOTHING, log: bool = False) -> "Chart":
    """The losses of one or several runs in one chart, on white, 720 x 360 points.

    x: step, epoch, tokens or minutes. smoothing: weight of the past in the smoothed training line, from 0 (none) to
    below 1. log: a logarithmic axis of losses. The chart is a matplotlib Figure: `.savefig("loss.png")` keeps it.
    """
    if x not in X_LABELS:
        raise ValueError(f"x is {x!r}, which is no axis of a loss chart. Use one of {', '.join(X_LABELS)}.")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; it must be from 0 (none) to below 1, such as {SMOOTHING}.")
    if not runs:
        raise ValueError("There is no run to plot. Give at least one, such as plot_runs(Run.open('mine')).")
    if wrong := [run for run in runs if not hasattr(run, "metrics_file")]:
        raise ValueError(f"{wrong[0]!r:.60} is no run. Give runs one by one: plot_runs(Run.open('mine'), *Run.list()).")
    from nanochat_core.show.charts import draw  # noqa: PLC0415  matplotlib: a second that only pictures need

    alone = len(runs) == 1
    lines = [losses(run, x, smoothing, place=None if alone else number) for number, run in enumerate(runs)]
    return draw([line for of_run in lines for line in of_run], x, log=log)
