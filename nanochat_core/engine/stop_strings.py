"""Ending a text before the first of some stop strings, also when one comes in pieces."""


class StopStrings:
    """Takes a text piece by piece and gives what surely shows: what may be the beginning of a stop string waits."""

    def __init__(self, stops: tuple[str, ...] = ()):
        """`stops` are not empty; the text ends before whichever is complete first."""
        assert all(stops)
        self._stops = stops
        self._held = ""
        self.found = False
        """Whether a stop string has come; nothing is visible from then on."""

    def take(self, piece: str) -> str:
        """What becomes visible with the next piece."""
        if self.found:
            return ""
        text = self._held + piece
        ends = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)[1]]
        visible = len(text) - max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[visible:]
        return text[:visible]

    def finish(self) -> str:
        """What waited, when the text is over without a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` with which `stop` may have begun."""
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(stop[:length])), 0)
