"""Spans that go on behind the words by which an index is ordered: how far, for every word of one text, in bounded time.

Where a text and a row run in step they do so for all words up to the first difference: that is looked for once, however
many words of the text are asked about in between.
"""

from collections.abc import Sequence

import numpy as np

from nanochat_core.rows.index import DEPTH, Index

MOST_PLACES = 200
"""Places of one span that are followed."""
MOST_FOLLOWED = 20_000
"""Times that a place is followed for one text; those that would come after are as long as the index says."""
_BLOCK = 64


class Follower:
    """How far the words of one text go on in the rows."""

    def __init__(self, index: Index, wanted: Sequence[int]):
        """wanted: the numbers of the text's words."""
        self._index = index
        self._wanted = np.array(wanted, ">u4")
        self._ends: dict[int, int] = {}
        """(place in the rows - place in the text) -> where in the text the two are no longer in step."""
        self._left = MOST_FOLLOWED

    def extended(self, start: int, first: int, last: int) -> tuple[int, np.ndarray]:
        """(words, places) of the span from `start` on, of DEPTH words at least: the longest of the first few.

        first, last: its places in the index's order.
        """
        places = self._index.places(first, min(last, first + MOST_PLACES))
        ends = np.array([self._end(start, at) for at in places.tolist()])
        best = int(ends.max())
        return best - start, places[ends == best]

    def _end(self, start: int, at: int) -> int:
        end, least = self._ends.get(at - start, 0), start + DEPTH
        if end >= least or not self._left:
            return max(end, least)
        self._left -= 1
        rest = self._wanted[least:]
        end = least + same(rest, self._index.from_place(at + DEPTH, len(rest)))
        self._ends[at - start] = end
        return end


def same(one: np.ndarray, other: np.ndarray) -> int:
    """How many words both have in common at their beginning."""
    size, done, block = min(len(one), len(other)), 0, _BLOCK
    while done < size:
        upto = min(size, done + block)
        differs = one[done:upto] != other[done:upto]
        place = int(differs.argmax())
        if differs[place]:
            return done + place
        done, block = upto, 2 * block
    return size
