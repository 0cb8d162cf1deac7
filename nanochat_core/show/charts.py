"""Loss charts as pictures: matplotlib figures of the lines that `runs.curves` reads."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanochat_core.show.palette import COLOURS, DISTANCE_LABEL, X_LABELS, Y_LABEL, Series

_SIZE = (7.2, 3.6)


class Chart(Figure):
    """A figure that a notebook shows as a picture, whether pyplot was imported or not."""

    def png(self) -> bytes:
        """The picture as a file."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()

    _repr_png_ = png

    def __repr__(self) -> str:
        return "<chart of losses>"


def draw(series: Sequence[Series], x: str, *, log: bool = False, dpi: int = 100) -> Chart:
    """The lines over `x`, one of X_LABELS, on white; 7.2 x 3.6 inches."""
    chart = Chart(figsize=_SIZE, dpi=dpi, layout="constrained")
    axes = chart.add_subplot()
    right = axes.twinx() if any(one.apart and one.points for one in series) else None
    for one in series:
        if one.points:
            _draw(right if one.apart and right else axes, one)
    axes.set(xlabel=X_LABELS[x], ylabel=Y_LABEL, yscale="log" if log else "linear")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if right:
        right.set(ylabel=DISTANCE_LABEL)
        right.spines[["top", "left"]].set_visible(False)
    drawn = [line for one in (axes, right) if one for line in one.lines if str(line.get_label())[0] != "_"]
    if drawn:
        (right or axes).legend(handles=drawn, frameon=False, fontsize="small")
    else:
        axes.text(0.5, 0.5, "No losses yet", transform=axes.transAxes, ha="center")
    return chart


def _draw(axes: Axes, series: Series) -> None:
    colour = COLOURS[series.colour % len(COLOURS)]
    x, y = zip(*series.points)
    axes.plot(
        x,
        y,
        color=colour,
        linestyle="--" if series.style == "dashed" else "-",
        alpha=0.35 if series.style == "faint" else None,
        linewidth=1.0 if series.style == "faint" else 1.6,
        marker="o" if series.best else "",
        markersize=3,
        label=series.label,
    )
    if series.best:
        best = min(series.points, key=lambda point: point[1])
        axes.plot(*best, "*", ms=13, color=colour, markeredgecolor="black")
