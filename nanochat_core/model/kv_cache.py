"""The keys and values of the tokens already seen, so that each new token costs one token's work."""

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat_core.compute.huge_pages import HUGE_BYTES, HugePages


class KVCache:
    """Keys and values of B rows (of possibly different lengths) for every layer, preallocated.

    `ids` keeps the rows' tokens as well: generation E mixes in the embedding of the token before, and a
    second chat turn finds out with them how much of the cache it can use again.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device):
        """`shape` is (layers, B, key/value heads, capacity in tokens, head size)."""
        layers, batch, _, capacity, _ = shape
        zeros = _zeros_of(math.prod(shape) * 2 * dtype.itemsize, device)
        self.keys, self.values = ([zeros(torch.Size(shape[1:]), dtype) for _ in range(layers)] for _ in range(2))
        self.ids = torch.zeros((batch, capacity), dtype=torch.long, device=device)
        self.lengths = [0] * batch

    @property
    def capacity(self) -> int:
        """Tokens that a row can hold."""
        return self.ids.shape[1]

    def truncate(self, length: int) -> None:
        """Forget every row's tokens from position `length` on."""
        self.lengths = [min(length, present) for present in self.lengths]

    def select(self, rows: list[int]) -> None:
        """Keep only these rows, in this order."""
        index = torch.tensor(rows, device=self.ids.device)
        self.keys = [keys[index] for keys in self.keys]
        self.values = [values[index] for values in self.values]
        self.ids = self.ids[index]
        self.lengths = [self.lengths[row] for row in rows]

    def view(self, lengths: list[int]) -> "KVCache":
        """The first len(lengths) rows, which hold so many tokens each, over the same memory."""
        rows, shared = len(lengths), copy.copy(self)
        shared.keys = [keys[:rows] for keys in self.keys]
        shared.values = [values[:rows] for values in self.values]
        shared.ids, shared.lengths = self.ids[:rows], list(lengths)
        return shared

    def copy_row(self, row: int, source: "KVCache", source_row: int = 0) -> None:
        """Overwrite a row with one of `source`, which may be this cache."""
        length = source.lengths[source_row]
        for old, new in zip(source.keys + source.values, self.keys + self.values):
            new[row, :, :length] = old[source_row, :, :length]
        self.ids[row, :length] = source.ids[source_row, :length]
        self.lengths[row] = length

    def grow(self, rows: int, capacity: int) -> None:
        """Make room for this many rows of this many tokens; all that is there stays.

        One tensor after the other, so that of a large cache there are never two copies: a block of memory (see
        `HugePages`) goes with its last tensor.
        """
        more_rows, more = rows - len(self.lengths), capacity - self.capacity
        assert min(more_rows, more) >= 0
        heads, size = self.keys[0].shape[1::2]
        shape, dtype = torch.Size((rows, heads, capacity, size)), self.keys[0].dtype
        zeros = _zeros_of(2 * len(self.keys) * shape.numel() * dtype.itemsize, self.ids.device)
        for tensors in (self.keys, self.values):
            for layer in range(len(tensors)):
                old = tensors[layer]
                tensors[layer] = zeros(shape, dtype)
                tensors[layer][: old.shape[0], :, : old.shape[2]] = old
        self.ids = F.pad(self.ids, (0, more, 0, more_rows))
        self.lengths += [0] * more_rows

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, H, T, D) at each row's length; returns the layer's keys and values (B, H, max length + T, D).

        The lengths themselves move on in `advance`, once all layers are done.
        """
        added = keys.shape[2]
        for target, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if len(set(self.lengths)) == 1:
                target[:, :, self.lengths[0] : self.lengths[0] + added] = new
            else:
                positions = self.positions(added)[:, None, :, None].expand(new.shape)
                target.scatter_(2, positions, new)
        end = max(self.lengths) + added
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def positions(self, added: int) -> Tensor:
        """Positions (B, T) of `added` new tokens in each row."""
        starts = torch.tensor(self.lengths, device=self.ids.device)
        return starts[:, None] + torch.arange(added, device=self.ids.device)

    def advance(self, ids: Tensor, counts: list[int]) -> None:
        """Note that each row has taken the first `counts[row]` of the new tokens `ids` (B, T)."""
        self.ids.scatter_(1, self.positions(ids.shape[1]), ids)
        self.lengths = [length + count for length, count in zip(self.lengths, counts)]


def _zeros_of(size: int, device: torch.device) -> Callable[[torch.Size, torch.dtype], Tensor]:
    """What makes tensors of zeros, `size` bytes of them together: side by side in huge pages where they fill one.

    Zeros, because attention multiplies what it does not look at by zero; huge pages, because every token reads all.
    """
    if device.type == "cpu" and size >= HUGE_BYTES:
        return HugePages().zeros
    return lambda shape, dtype: torch.zeros(shape, dtype=dtype, device=device)
