"""Rotary positions: each pair of channels of a head is turned by an angle that grows with the position.

Su et al., RoFormer, arXiv 2104.09864; pairs are the halves of the head, as in nanochat.
"""

import torch
from torch import Tensor

from nanochat_core.model.generations import Generation


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn (B, T, H, D) by the angles whose cos and sin are (B, T, 1, D / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos + second * sin, second * cos - first * sin], -1)


class RotaryTable:
    """cos and sin of every position so far asked for, in fp32; made anew when more are needed or elsewhere."""

    def __init__(self, generation: Generation, head_dim: int, length: int):
        """`length` positions are made at least."""
        self._generation, self._head_dim, self._length = generation, head_dim, length
        self._table: tuple[Tensor, Tensor] | None = None

    def of(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """cos and sin, each (`length` or more, head_dim / 2), on `device`."""
        table = self._table
        if table is None or table[0].device != device or len(table[0]) < length:
            self._table = table = self._made(max(length, self._length), device)
        return table  # not what lies there now: another thread may have put a shorter one

    def _made(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        channels = torch.arange(0, self._head_dim, 2, dtype=torch.float32, device=device)
        frequencies = 1.0 / (self._generation.rope_base ** (channels / self._head_dim))
        angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
        cos, sin = angles.cos(), angles.sin()
        if self._generation.rounds_rotary:
            cos, sin = cos.bfloat16().float(), sin.bfloat16().float()
        return cos, sin
