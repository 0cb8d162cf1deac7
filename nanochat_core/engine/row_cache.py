"""The cache of a batch whose rows come and go: live rows lie together at its beginning, and it grows as they do."""

from collections.abc import Callable

from nanochat_core.model.kv_cache import KVCache

STEP = 256
"""Tokens by which the rows grow, so that they are copied once in so many decode steps."""


class RowCache:
    """Rows of a cache that join and leave. `live` is the cache of those that are there, None when there are none.

    Nothing is reserved for a reply's greatest length: a short reply costs a short row. An empty one holds no memory.
    """

    def __init__(self, new_cache: Callable[[int, int], KVCache], max_rows: int):
        """`new_cache` makes a cache of (rows, capacity in tokens)."""
        self._new_cache, self._max_rows = new_cache, max_rows
        self._whole: KVCache | None = None
        self.live: KVCache | None = None

    def new_row(self, tokens: int) -> KVCache:
        """A cache of one row with room for `tokens`, to be filled and then given to `join`."""
        return self._new_cache(1, _rounded(tokens))

    def join(self, row: KVCache) -> None:
        """Add a row at the end. The row's own cache is not to be used afterwards."""
        if self.live is None:
            self._whole = row
        else:
            lengths = [*self.live.lengths, 0]
            self._reserve(len(lengths), max(*lengths, row.lengths[0]))
            self._whole.copy_row(len(lengths) - 1, row)
        lengths = [*(self.live.lengths if self.live else []), row.lengths[0]]
        self.live = self._whole.view(lengths)

    def leave(self, row: int) -> None:
        """Remove a row; the last one takes its place."""
        lengths = list(self.live.lengths)
        last = len(lengths) - 1
        if last == 0:
            self._whole = self.live = None
            return
        if row != last:
            self.live.copy_row(row, self.live, last)
            lengths[row] = lengths[last]
        self.live = self._whole.view(lengths[:-1])

    def make_room(self) -> None:
        """See to it that each row can take one more token."""
        self._reserve(len(self.live.lengths), max(self.live.lengths) + 1)

    def clear(self) -> None:
        """Remove every row."""
        self._whole = self.live = None

    def _reserve(self, rows: int, tokens: int) -> None:
        present, capacity = len(self._whole.lengths), self._whole.capacity
        if rows <= present and tokens <= capacity:
            return
        lengths, self.live = self.live.lengths, None  # the view would keep the old memory alive
        rows = max(present, min(self._max_rows, 1 << (rows - 1).bit_length()))
        self._whole.grow(rows, max(capacity, _rounded(tokens)))
        self.live = self._whole.view(lengths)


def _rounded(tokens: int) -> int:
    return -(-tokens // STEP) * STEP
