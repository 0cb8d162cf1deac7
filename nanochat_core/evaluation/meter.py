"""How far a long measurement is, and how long it will still take. Without torch."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nanochat_core.system.words import duration

EVERY_SECONDS = 0.2
"""A watcher is told, and may stop the work, so often."""


@dataclass(frozen=True)
class Moment:
    """Where a measurement is."""

    fraction: float
    """0 to 1."""
    doing: str
    """Such as "mine: question 120 of 500"."""
    seconds_left: float | None = None
    """Of what is being done, None before anything is known of it."""

    def __str__(self) -> str:
        left = f", about {duration(self.seconds_left)} left" if self.seconds_left is not None else ""
        return f"{self.doing}{left}"


Watch = Callable[[Moment], None]
"""Told how far it is; what it raises ends the measurement, and what was measured by then is kept."""


def unwatched(moment: Moment) -> None:
    """Nobody looks."""


@dataclass
class Meter:
    """Counts the done work of several parts, one after the other, and tells a watcher now and then."""

    watch: Watch
    parts: int
    """How many there are."""
    _part: int = -1
    _doing: str = ""
    _total: int = 1
    _done: int = 0
    _began: float = 0.0
    _told: float = field(default=-EVERY_SECONDS)

    def begin(self, doing: str, total: int) -> None:
        """The next part begins, of `total` pieces; `doing` is said with the number of those that are done."""
        self._part += 1
        self._doing, self._total, self._done, self._began = doing, max(1, total), 0, time.monotonic()
        self._tell()

    def restart(self, total: int) -> None:
        """The part that has begun is of `total` pieces."""
        self._total, self._done, self._began = max(1, total), 0, time.monotonic()

    def beat(self, done: int = 0) -> None:
        """So many more pieces are done, or it only goes on."""
        self._done += done
        if time.monotonic() - self._told >= EVERY_SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        share = min(1.0, self._done / self._total)
        left = (self._told - self._began) * (1 - share) / share if share else None
        doing = f"{self._doing} {min(self._done + 1, self._total):,} of {self._total:,}"
        self.watch(Moment((self._part + share) / self.parts, doing, left))
