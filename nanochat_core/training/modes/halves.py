"""An fp32 weight as two halves: the bf16 number that the computation reads, and what is missing to the fp32 one.

The high half is the weight rounded to bf16, as a cast would round it: half to even. The low half is the last 16 bits of
the weight, read as a signed number: what has to be added to the high half's bits. One case is not told by them: just
between two bf16 numbers the weight may lie above the even one or below it. So those above have a bit in `ties`, a
sixteenth of the low half's size; a list of them would be smaller, but its length would have to be read from the device.
"""

import sys
from collections.abc import Iterator

import torch
from torch import Tensor

assert sys.byteorder == "little", "the low half of a number is taken to come first"

_PACK = 0x0102040810204080
"""Times eight bytes that are 0 or 1: the highest byte has their bits (Knuth, TAOCP, 7.1.3)."""
_SPREAD, _EACH_BIT = 0x0101010101010101, 0x8040201008040201 - (1 << 64)
_ALMOST = 0x7F7F7F7F7F7F7F7F


_CHUNK = 1 << 18
"""Numbers that a CPU converts at once: what is made on the way then stays in its caches."""


def split(weight: Tensor, high: Tensor, low: Tensor, ties: Tensor) -> None:
    """Write an fp32 `weight` as halves: bf16 `high` and int16 `low` of its shape, uint8 `ties` (size / 8,).

    All are contiguous, and weight.numel() is a multiple of 8. A NaN stays one.
    """
    for numbers, eighths in _chunks(weight):
        piece = weight.view(-1)[numbers]
        high.view(-1)[numbers].copy_(piece)
        low.view(-1)[numbers].copy_(piece.view(torch.int16).view(-1, 2)[:, 0])
        above_even = piece.view(torch.int32).bitwise_and(0x1FFFF) == 0x8000
        ties[eighths].copy_(above_even.view(torch.int64).mul_(_PACK).bitwise_right_shift_(56))


def join(high: Tensor, low: Tensor, ties: Tensor, out: Tensor) -> Tensor:
    """Write the fp32 weight of the halves to `out`, which is returned."""
    for numbers, eighths in _chunks(out):
        bits = out.view(torch.int32).view(-1)[numbers]
        bits.copy_(high.view(torch.int16).view(-1)[numbers]).bitwise_left_shift_(16).add_(low.view(-1)[numbers])
        eight = ties[eighths].to(torch.int64).mul_(_SPREAD).bitwise_and_(_EACH_BIT).add_(_ALMOST)
        above_even = eight.bitwise_right_shift_(7).bitwise_and_(_SPREAD).view(torch.uint8)
        bits.add_(above_even, alpha=1 << 16)
    return out


def _chunks(weight: Tensor) -> Iterator[tuple[slice, slice]]:
    """(numbers, their eighths in `ties`) of the pieces that are converted at once; elsewhere all are."""
    size = _CHUNK if weight.device.type == "cpu" else weight.numel()
    for start in range(0, weight.numel(), size):
        end = min(start + size, weight.numel())
        yield slice(start, end), slice(start // 8, end // 8)
