"""A line chart as one inline SVG: drawn here, so that the browser has nothing to compute and nothing to fetch."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nanochat_core.show.axis import below, ceiling
from nanochat_core.show.palette import COLOURS, DISTANCE_LABEL, X_LABELS, Y_LABEL, Point, Series

MOST_POINTS = 400
_SLICES = 60
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 20, 10, 42
_NARROW = (700, 460)
_APART_HEIGHT = 170


def loss_chart(
    series: Sequence[Series], x_axis: str = "step", log: bool = False, width: int = 860, height: int = 300
) -> str:
    """The chart of losses over one of X_LABELS, and under it that of the distance from the base where it is known."""
    x_label, apart = X_LABELS[x_axis].lower(), [one for one in series if one.apart]
    losses = line_chart([one for one in series if not one.apart], x_label, Y_LABEL.lower(), log, width, height)
    return losses + line_chart(apart, x_label, DISTANCE_LABEL.lower(), width=width, height=_APART_HEIGHT)


def line_chart(
    series: Sequence[Series], x_label: str, y_label: str, log: bool = False, width: int = 860, height: int = 300
) -> str:
    """The chart as HTML: axes, grid, lines, best points, legend, and the values under the pointer as titles.

    Empty without a point to draw. log: the y axis is logarithmic; points at or below 0 are then left out. A wide chart
    comes a second time in a shape for narrow windows, where it would shrink to a strip; the style shows one of them.
    Where the first points would flatten the rest, the lines come in from above, with the value at which they began.
    """
    series = [_drawable(one, log) for one in series]
    series = [one for one in series if one.points]
    if not series:
        return ""
    top = None if log else ceiling(series)
    shapes = {"": (width, height)}
    if width > _NARROW[0]:
        shapes = {"wide": (width, height), "narrow": _NARROW}
    pictures = "".join(
        _svg(series, _Frame.around(series, log, top, shape), x_label, y_label, name) for name, shape in shapes.items()
    )
    return f'<div class="chart">{_legend(series)}{pictures}</div>'


def _svg(series: Sequence[Series], frame: "_Frame", x_label: str, y_label: str, shape: str) -> str:
    parts = [*_grid(frame), *_axes(frame, x_label, y_label)]
    for one in series:
        parts += _line(one, frame)
    parts += [_best(one, frame) for one in series if one.best]
    parts += _slices(series, frame, x_label)
    title = escape(f"{y_label} by {x_label}: " + ", ".join(one.name for one in series))
    size = f'viewBox="0 0 {frame.width} {frame.height}"'
    return f'<svg class="{shape}" {size} role="img" aria-label="{title}">{"".join(parts)}</svg>'


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most about `most` points that still show every peak: the lowest and highest of each stretch, and both ends."""
    if len(points) <= most:
        return list(points)
    stretch = len(points) / (most / 2)
    kept = {0, len(points) - 1}
    for number in range(most // 2):
        span = range(int(number * stretch), min(len(points), int((number + 1) * stretch)))
        kept.add(min(span, key=lambda i: points[i][1]))
        kept.add(max(span, key=lambda i: points[i][1]))
    return [points[i] for i in sorted(kept)]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values between low and high, about `count` of them."""
    raw = (high - low) / count
    scale = 10 ** math.floor(math.log10(raw))
    step = next(scale * factor for factor in (1, 2, 2.5, 5, 10) if scale * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


_TINY = 1e-200  # nothing measured is smaller, and the logarithms and ratios of what is smaller leave the floats


@dataclass(frozen=True)
class _Frame:
    """From values to places in the picture."""

    low: Point
    high: Point
    log: bool
    width: int
    height: int
    top: float | None = None
    """Where the lines are cut off, if they are."""

    @classmethod
    def around(cls, series: Sequence[Series], log: bool, top: float | None, shape: tuple[int, int]) -> "_Frame":
        xs = [x for one in series for x, _ in one.points]
        ys = [math.log10(y) if log else y for one in series for _, y in one.points]
        low_y, high_y = min(ys), max(ys) if top is None else top
        spread = high_y - low_y
        margin = 0.06 * spread if spread > _TINY else max(abs(high_y) * 0.1, 0.05)
        low_x, high_x = min(xs), max(xs)
        if high_x - low_x <= _TINY:
            high_x = low_x + 1
        return cls((low_x, low_y - margin), (high_x, high_y + margin), log, *shape, top)

    def x(self, value: float) -> float:
        share = (value - self.low[0]) / (self.high[0] - self.low[0])
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        share = (value - self.low[1]) / (self.high[1] - self.low[1])
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def y_ticks(self) -> list[float]:
        if not self.log:
            return ticks(self.low[1], self.high[1])
        low, high = 10 ** self.low[1], 10 ** self.high[1]
        if self.high[1] - self.low[1] < 0.7:  # less than a factor of 5: round values are clearer than powers of ten
            return [value for value in ticks(low, high) if value > 0]
        powers = range(math.floor(self.low[1]), math.ceil(self.high[1]) + 1)
        values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        return [value for value in values if low <= value <= high]


def _drawable(series: Series, log: bool) -> Series:
    points = [(x, y) for x, y in series.points if math.isfinite(x) and math.isfinite(y) and (y > _TINY or not log)]
    return Series(series.name, points, series.colour, series.style, series.best)


def _grid(frame: _Frame) -> list[str]:
    right = frame.width - _RIGHT
    parts = []
    for value in frame.y_ticks():
        y = f"{frame.y(value):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{_number(value)}</text>')
    return parts


def _axes(frame: _Frame, x_label: str, y_label: str) -> list[str]:
    bottom, right = frame.height - _BOTTOM, frame.width - _RIGHT
    parts = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>']
    for value in ticks(frame.low[0], frame.high[0], 7):
        parts.append(f'<text x="{frame.x(value):.1f}" y="{bottom + 17}" text-anchor="middle">{_number(value)}</text>')
    parts.append(
        f'<text x="{(right + _LEFT) / 2:.0f}" y="{frame.height - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(f'<text x="{_LEFT + 8}" y="{_TOP + 8}">{escape(y_label)}{" (log scale)" if frame.log else ""}</text>')
    return parts


def _line(series: Series, frame: _Frame) -> list[str]:
    parts, first = [], series.points[0]
    if frame.top is not None and first[1] > frame.top:
        series = below(series, frame.top)
        if not series.points:
            return []
        x, y = frame.x(series.points[0][0]) + 6, frame.y(series.points[0][1]) + 14  # below the axis's name
        said = f"\u2191 {_number(round(first[1], 2))} at {_number(first[0])}"
        parts = [] if series.style else [f'<text class="from" x="{x:.1f}" y="{y:.1f}">{said}</text>']
    places = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in thin(series.points))
    classes = f"c{series.colour % len(COLOURS)} {escape(series.style)}"
    if len(series.points) == 1:  # a line through one point cannot be seen
        cx, cy = places.split(",")
        return [*parts, f'<circle class="best f{series.colour % len(COLOURS)}" r="3.5" cx="{cx}" cy="{cy}"/>']
    return [*parts, f'<polyline class="line {classes}" points="{places}"/>']


def _best(series: Series, frame: _Frame) -> str:
    x, y = min(series.points, key=lambda point: point[1])
    return (
        f'<circle class="best f{series.colour % len(COLOURS)}" r="4.5" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}">'
        f"<title>{escape(series.label)}</title></circle>"
    )


def _slices(series: Sequence[Series], frame: _Frame, x_label: str) -> list[str]:
    """Upright strips over the chart; the title of each tells the values there. One per point would be too many."""
    places = sorted({x for one in series for x, _ in one.points})
    if len(places) > _SLICES:
        places = [places[round(i * (len(places) - 1) / (_SLICES - 1))] for i in range(_SLICES)]
    edges = [frame.x(places[0])]
    edges += [(frame.x(a) + frame.x(b)) / 2 for a, b in itertools.pairwise(places)]
    edges.append(frame.x(places[-1]))
    parts, positions = [], [0] * len(series)
    for place, left, right in zip(places, edges, edges[1:]):
        lines = [f"{x_label} {_number(place)}"]
        for number, one in enumerate(series):
            while positions[number] + 1 < len(one.points) and one.points[positions[number] + 1][0] <= place:
                positions[number] += 1
            x, y = one.points[positions[number]]
            if x <= place:
                lines.append(f"{one.name}: {_value(y)}" + (f" (at {_number(x)})" if x != place else ""))
        width = max(right - left, 3)
        parts.append(
            f'<rect class="slice" x="{left:.1f}" y="{_TOP}" width="{width:.1f}" '
            f'height="{frame.height - _TOP - _BOTTOM}"><title>{escape(chr(10).join(lines))}</title></rect>'
        )
    return parts


def _legend(series: Sequence[Series]) -> str:
    entries = []
    for one in series:
        classes = f"c{one.colour % len(COLOURS)} {escape(one.style)}"
        entries.append(f'<span><i class="{classes}"></i>{escape(one.label)}</span>')
    return f'<div class="legend">{"".join(entries)}</div>'


def _number(value: float) -> str:
    """An axis's value, short."""
    for limit, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.4g}{letter}"
    return f"{value:.4g}"


def _value(value: float) -> str:
    return f"{value:.4f}"
