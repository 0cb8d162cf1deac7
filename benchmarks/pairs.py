"""Comparing variants on a noisy machine: they take turns, and what counts is the median of the ratios of a turn."""

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Ratio(NamedTuple):
    """How many times as much one variant gave as the other, turn by turn."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x ({self.lowest:.2f} to {self.highest:.2f})"


def take_turns(variants: Mapping[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """What each variant gives, `turns` times: A B C, A B C, ... after one turn of warming up that does not count."""
    for run in variants.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(turns):
        for name, run in variants.items():
            found[name].append(run())
    return found


def ratio(ours: list[float], theirs: list[float]) -> Ratio:
    """Median, lowest and highest of ours / theirs in the same turn, of figures of which larger ones are better."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
