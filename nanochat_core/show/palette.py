"""What every chart of losses shares, wherever it is drawn: its lines, colours and names; without loading matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("#4f46e5", "#d97706", "#059669", "#db2777", "#0284c7", "#7c3aed", "#65a30d", "#dc2626")
"""One for each run of a chart, on white; the app's style sheet has the same, and lighter ones for the dark theme."""

X_LABELS = {"step": "Step", "epoch": "Epoch", "tokens": "Tokens", "minutes": "Minutes"}
"""What a loss may be drawn over, and how the axis is called."""

Y_LABEL = "Loss (nats per token)"
DISTANCE_LABEL = "Distance from the base (nats per token)"

Point = tuple[float, float]
"""(x, y) of one value."""


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    """They ascend in x; those with a y that cannot be drawn are left out."""
    colour: int = 0
    """Number of one of COLOURS; they repeat."""
    style: str = ""
    """faint, dashed, or nothing."""
    best: str = ""
    """What is said of the lowest point, such as "best 1.25 at step 20"; the point is then marked."""
    apart: bool = False
    """It is the distance from the base and no loss: it has a scale of its own, so that it flattens none."""

    @property
    def label(self) -> str:
        """The line in a legend."""
        return f"{self.name} ({self.best})" if self.best else self.name
