"""How far up a chart of losses reaches: a training's first points would press all later ones into a flat line."""

from collections.abc import Sequence
from dataclasses import replace

from nanochat_core.show.palette import Point, Series

START = 0.15
"""So much of the x axis is the start, whose points do not count where they tower above the rest."""
TOWERS = 3
"""How many times as high as the rest they are then."""
LEAST_POINTS = 4
"""Without so many points after it, nothing is the start yet."""


def ceiling(series: Sequence[Series]) -> float | None:
    """The highest loss after the start, where the start's are far above it; None where all of them are to be seen."""
    places = [x for one in series for x, _ in one.points]
    if not places:
        return None
    first, last = min(places), max(places)
    later = [y for one in series for x, y in one.points if x > first + START * (last - first)]
    highest, lowest = max(y for one in series for _, y in one.points), min(y for one in series for _, y in one.points)
    if len(later) < LEAST_POINTS or highest - lowest <= TOWERS * (max(later) - lowest):
        return None
    return max(later)


def below(series: Series, top: float) -> Series:
    """The line from where it comes down to `top` on: its first points, as far as they are higher, are cut off."""
    points = list(series.points)
    cut = next((number for number, (_, y) in enumerate(points) if y <= top), len(points))
    if cut == 0:
        return series
    entry = [_crossing(points[cut - 1], points[cut], top)] if cut < len(points) and points[cut][1] < top else []
    return replace(series, points=[*entry, *points[cut:]])


def _crossing(above: Point, under: Point, top: float) -> Point:
    share = (above[1] - top) / (above[1] - under[1])
    return above[0] + share * (under[0] - above[0]), top
