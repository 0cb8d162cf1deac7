"""Loss curves of several runs: on the page, as a picture, and as a table."""

import csv
import io
from collections.abc import Sequence

from nanochat_core.runs import curves as run_curves
from nanochat_core.runs.run import Run
from nanochat_core.show.palette import Series
from nanochat_core.show.svg import loss_chart

CURVES = run_curves.WHICH
_MEASURED = ("train_loss", "val_loss", "best_val_loss", "val_bpb", "kl_from_base", "lr_mult")


def curves(tags: Sequence[str], x_axis: str = "step", which: str = "Both", smoothing: float = 0.0) -> list[Series]:
    """The lines of these runs, each in its colour. A run that is gone has none."""
    present = {run.tag: run for run in Run.list()}
    found = [
        run_curves.losses(present[tag], x_axis, smoothing, which, place)
        for place, tag in enumerate(tags)
        if tag in present
    ]
    return [line for lines in found for line in lines]


def chart(series: Sequence[Series], x_axis: str, log: bool) -> str:
    """The lines as inline SVG; "" when there is nothing to draw."""
    return loss_chart(series, x_axis, log, width=1240, height=360)


def png(series: Sequence[Series], x_axis: str, log: bool) -> bytes:
    """The same as a picture of 1440 x 720 points, on white."""
    from nanochat_core.show.charts import draw  # noqa: PLC0415  matplotlib: a second for this download alone

    return draw(series, x_axis, log=log, dpi=200).png()


_FORMULA = tuple("=+-@")


def as_text(cell: str) -> str:
    """A text for a CSV file that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.lstrip()[:1] in _FORMULA else cell


def csv_text(tags: Sequence[str]) -> str:
    """All measured losses of these runs, one line of metrics a row, nothing smoothed."""
    present = {run.tag: run for run in Run.list()}
    names = ("step", "epoch", "tokens", "time", *_MEASURED)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("run", *names))
    for tag in tags:
        if tag in present:
            writer.writerows(
                (as_text(tag), *(row.get(name, "") for name in names)) for row in run_curves.rows(present[tag])
            )
    return text.getvalue()
