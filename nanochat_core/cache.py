"""The keys and values of the tokens already seen, so that each new token costs one token's work."""

import torch
from torch import Tensor


class KVCache:
    """Keys and values of B rows (of possibly different lengths) for every layer, preallocated.

    `ids` keeps the rows' tokens as well: generation E mixes in the embedding of the token before, and a
    second chat turn finds out with them how much of the cache it can use again.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device):
        """`shape` is (layers, B, key/value heads, capacity in tokens, head size)."""
        layers, batch, _, capacity, _ = shape
        self.keys = [torch.zeros(shape[1:], dtype=dtype, device=device) for _ in range(layers)]
        self.values = [torch.zeros(shape[1:], dtype=dtype, device=device) for _ in range(layers)]
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
