"""Loss curves of several runs: on the page, as a picture, and as a table."""

import csv
import io
from collections.abc import Sequence

from nanochat_core.runs import curves as run_metrics
from nanochat_core.runs.curves import smooth
from nanochat_core.runs.run import Run
from nanochat_core.show.palette import COLOURS, X_LABELS
from studio.parts.svg import Series, line_chart

CURVES = ("Both", "Training", "Validation")


def curves(tags: Sequence[str], x_axis: str = "step", which: str = "Both", smoothing: float = 0.0) -> list[Series]:
    """The lines of these runs; training dashed and smoothed, validation with its best point.

    A run that is gone has none.
    """
    found = []
    present = {run.tag: run for run in Run.list()}
    for colour, tag in enumerate(tags):
        if tag not in present:
            continue
        rows = run_metrics.rows(present[tag])
        if which != "Validation":
            train = run_metrics.points(rows, "train_loss", x_axis)
            found.append(Series(f"{tag}, training", smooth(train, smoothing), colour, "dashed"))
        if which != "Training":
            found.append(
                Series(f"{tag}, validation", run_metrics.points(rows, "val_loss", x_axis), colour, mark_best=True)
            )
    return found


def chart(series: Sequence[Series], x_axis: str, log: bool) -> str:
    """The lines as inline SVG; "" when there is nothing to draw."""
    return line_chart(series, X_LABELS[x_axis].lower(), "loss", log, width=1240, height=360)


def png(series: Sequence[Series], x_axis: str, log: bool) -> bytes:
    """The same as a picture of 1600 x 900 points, on white."""
    from nanochat_core.show.charts import Chart, finish  # noqa: PLC0415  matplotlib: a second for this download alone

    figure = Chart(figsize=(10, 5.625), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    for one in series:
        if not one.points:
            continue
        colour = COLOURS[one.colour % len(COLOURS)]
        x, y = zip(*one.points)
        axes.plot(x, y, color=colour, linestyle="--" if "dashed" in one.style else "-", label=one.name, linewidth=1.6)
        if one.mark_best:
            best = min(one.points, key=lambda point: point[1])
            axes.plot(*best, "o", color=colour, markersize=6)
    finish(axes, x_axis, log=log)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


_FORMULA = tuple("=+-@")


def as_text(cell: str) -> str:
    """A text for a CSV file that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.lstrip()[:1] in _FORMULA else cell


def csv_text(tags: Sequence[str]) -> str:
    """All measured losses of these runs, one line of metrics a row, nothing smoothed."""
    present = {run.tag: run for run in Run.list()}
    names = ("step", "epoch", "tokens", "time", "train_loss", "val_loss", "best_val_loss", "val_bpb", "lr_mult")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("run", *names))
    for tag in tags:
        if tag in present:
            writer.writerows(
                (as_text(tag), *(row.get(name, "") for name in names)) for row in run_metrics.rows(present[tag])
            )
    return text.getvalue()
