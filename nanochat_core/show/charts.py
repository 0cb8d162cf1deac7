"""Loss charts of runs as matplotlib figures: training, smoothed training, validation, and the best point."""

import io
from typing import Any, Protocol

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanochat_core.show.palette import COLOURS, X_LABELS, Y_LABEL

SMOOTHING = 0.8
"""Weight of the past in the smoothed line."""

_SIZE = (7.2, 3.6)


class Measured(Protocol):
    """A run, as far as a chart needs it."""

    @property
    def tag(self) -> str:
        """The run's name."""

    def metrics(self) -> pandas.DataFrame:
        """A row for each line of metrics.jsonl."""


class Chart(Figure):
    """A figure that a notebook shows as a picture, whether pyplot was imported or not."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()

    def __repr__(self) -> str:
        return "<chart of losses>"


def plot_runs(*runs: Measured, x: str = "step", smoothing: float = SMOOTHING, log: bool = False) -> Chart:
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
    if wrong := [run for run in runs if not hasattr(run, "metrics")]:
        raise ValueError(f"{wrong[0]!r:.60} is no run. Give runs one by one: plot_runs(Run.open('mine'), *Run.list()).")
    chart = Chart(figsize=_SIZE, dpi=100, layout="constrained")
    axes = chart.add_subplot()
    for number, run in enumerate(runs):
        name = f"{run.tag}: " if len(runs) > 1 else ""
        validation = COLOURS[number % len(COLOURS)] if len(runs) > 1 else COLOURS[1]
        _draw(axes, _with_axis(run.metrics(), x), name, COLOURS[number % len(COLOURS)], validation, smoothing)
    finish(axes, x, log=log)
    return chart


def finish(axes: Axes, x: str, *, log: bool) -> None:
    """Label the axes of a loss chart over `x`, after its lines were drawn."""
    axes.set(xlabel=X_LABELS[x], ylabel=Y_LABEL, yscale="log" if log else "linear")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False, fontsize="small")
    else:
        axes.text(0.5, 0.5, "No losses yet", transform=axes.transAxes, ha="center")


def _with_axis(metrics: pandas.DataFrame, x: str) -> pandas.DataFrame:
    """The metrics with a column x. A validation's line has no tokens of its own: it has those of the step before."""
    if x == "minutes":
        return metrics.assign(x=(metrics["time"] - metrics["time"].min()) / 60)
    values = metrics[x]
    return metrics.assign(x=values.ffill().fillna(0.0) if x == "tokens" else values)


def _draw(axes: Axes, metrics: pandas.DataFrame, name: str, train_colour: str, colour: str, smoothing: float) -> None:
    train = metrics.dropna(subset=["train_loss"])
    validation = metrics.dropna(subset=["val_loss"])
    if len(train):
        faint: dict[str, Any] = {"alpha": 0.35, "linewidth": 1.0} if smoothing else {"linewidth": 1.4}
        dashes = "--" if name else "-"
        axes.plot(train["x"], train["train_loss"], dashes, color=train_colour, label=f"{name}training", **faint)
        if smoothing:
            smooth = train["train_loss"].ewm(alpha=1 - smoothing).mean()
            axes.plot(train["x"], smooth, dashes, color=train_colour, linewidth=1.6, label=f"{name}training, smoothed")
    if len(validation):
        axes.plot(validation["x"], validation["val_loss"], "o-", ms=3, color=colour, label=f"{name}validation")
        best = validation.iloc[int(validation["val_loss"].argmin())]
        label = f"{name}best, {best['val_loss']:.2f} at step {best['step']:.0f}"
        axes.plot([best["x"]], [best["val_loss"]], "*", ms=13, color=colour, markeredgecolor="black", label=label)
