"""Choosing the next token from the logits: greedy, or at random with temperature, top-k and top-p."""

import ctypes
import functools
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nanochat_core.native.build import library

_ROUNDING = 1e-6
"""A sum of probabilities that is so near to top_p has reached it: fp32 logits know no better."""
_LARGEST = torch.finfo(torch.float32).max
"""Infinite logits count as this, with their sign: their differences are numbers."""

MOST_TEMPERATURE = 1000
MOST_TOP_K = 1 << 24
"""No vocabulary is larger."""


@dataclass(frozen=True)
class Sampling:
    """How to choose: temperature 0 takes the most likely token; top_k None or 0 admits all, and so does top_p 1."""

    temperature: float = 0.7
    top_k: int | None = 50
    seed: int = 1
    top_p: float = 1.0
    """Admits of the top_k the likeliest that together have this probability (Holtzman et al., arXiv 1904.09751)."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= MOST_TEMPERATURE:  # NaN is not, either
            raise ValueError(
                f"temperature is {self.temperature}; it must be from 0 (always the likeliest word) to "
                f"{MOST_TEMPERATURE} (nearly any word)."
            )
        if self.top_k is not None and not 0 <= self.top_k <= MOST_TOP_K:
            raise ValueError(f"top_k is {self.top_k}; it must be from 1 to {MOST_TOP_K:,}, or 0 for no limit.")
        if not 0 <= self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be from 0 to 1, 1 for no limit.")

    def source(self) -> random.Random:
        """A fresh source of random numbers, the same for every device: one seed gives one reply."""
        return random.Random(self.seed % 2**63)

    def choose(self, logits: Tensor, sources: list[random.Random]) -> list[int]:
        """One token id for each row of `logits`, (B, V) or (B, 1, V). ValueError when the model gives NaN."""
        rows, size = len(logits), logits.shape[-1]
        count = 1 if self.temperature == 0 else min(self.top_k or size, size)
        assert count == 1 or len(sources) == rows
        uniform = [source.random() for source in sources] if count > 1 else [0.0] * rows
        if count > 1 and not logits.is_cpu:  # else the choice alone is copied
            logits = logits.cpu()
        if not (logits.dtype == torch.float32 and logits.is_contiguous()):
            logits = logits.float().contiguous()
        compiled = _compiled() if logits.is_cpu else None
        if compiled and count <= compiled.most:
            ids = self._choose_compiled(compiled.choose, logits, count, uniform)
        else:
            ids = self._choose_by_torch(logits.view(rows, size), count, uniform)
        if -1 in ids:
            raise ValueError(
                "The model's output is not a number (NaN): its weights are damaged or its training diverged. "
                "Take an earlier checkpoint, or train again with a lower learning rate."
            )
        return ids

    def _choose_compiled(self, choose: Any, logits: Tensor, count: int, uniform: list[float]) -> list[int]:
        rows = len(uniform)
        ids = (ctypes.c_int64 * rows)()
        choose(
            *(logits.data_ptr(), rows, logits.shape[-1], count, self.temperature, self.top_p),
            *((ctypes.c_double * rows)(*uniform), ids),
        )
        return list(ids)

    def _choose_by_torch(self, logits: Tensor, count: int, uniform: list[float]) -> list[int]:
        """The same, c/choose.h, in torch's operators; -1 for a row that holds NaN."""
        broken = logits.isnan().any(-1)
        logits = logits.masked_fill(broken[:, None], 0.0)
        if count == 1:
            ids = logits.argmax(-1, keepdim=True)
        else:
            values, ids = _largest(logits, count)
            values = values.clamp(-_LARGEST, _LARGEST).double()
            weights = ((values - values[:, :1]) / max(self.temperature, 1e-300)).exp()
            if self.top_p < 1:
                before = weights.cumsum(-1) - weights
                before[:, 0] = -1.0  # the likeliest stays in any case
                enough = self.top_p * weights.sum(-1, keepdim=True) * (1 - _ROUNDING)
                weights = weights.masked_fill(before >= enough, 0.0)
            sums = weights.cumsum(-1)
            wanted = torch.tensor(uniform, dtype=torch.double)[:, None] * sums[:, -1:]
            picks = torch.minimum((sums <= wanted).sum(-1), (weights > 0).sum(-1) - 1)
            ids = ids.gather(-1, picks[:, None])
        return ids[:, 0].masked_fill(broken, -1).tolist()


def _largest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(values, places), each (B, count), of the largest of `logits` (B, V), the first among equals."""
    if count == logits.shape[-1] or not len(logits):
        values, places = logits.sort(descending=True, stable=True)
        return values[:, :count], places[:, :count]
    rows = [_largest_of(row, count) for row in logits]
    return torch.stack([values for values, _ in rows]), torch.stack([places for _, places in rows])


def _largest_of(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same for one row (V,). What `topk` finds to be as large is sorted; it alone does not promise the first."""
    places = (logits >= logits.topk(count).values[-1]).nonzero()[:, 0]
    values, order = logits[places].sort(descending=True, stable=True)
    return values[:count], places[order[:count]]


class _Compiled(NamedTuple):
    """What c/choose.h has: most of torch's time for this goes into starting its operators."""

    choose: Any
    most: int
    """top_k at most."""


@functools.cache
def _compiled() -> _Compiled | None:
    compiled = library("decode")
    if compiled is None:
        return None
    pointer, count, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    choose = compiled.choose_tokens
    choose.argtypes, choose.restype = [pointer, count, count, count, real, real, pointer, pointer], None
    compiled.most_choices.restype = count
    return _Compiled(choose, compiled.most_choices())
