"""Products of matrices that are known to be symmetric, at little more than half their cost.

A product of matrices (size, size), or of stacks of them (count, size, size), is computed in rows of blocks from the
diagonal on; what lies below the diagonal is mirrored.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MIRRORED_FROM = 384
"""Rows from which it pays to mirror: the smaller products of blocks are slower for their size."""


class Buffers:
    """Memory by name, kept for the next matrix and the next step: on a CPU fresh memory may cost ten times its use."""

    def __init__(self) -> None:
        self._flat: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor of this shape with whatever was last written to `name`."""
        key, count = (name, dtype, device), math.prod(shape)
        if key not in self._flat or self._flat[key].numel() < count:
            self._flat[key] = torch.empty(count, dtype=dtype, device=device)
        return self._flat[key][:count].view(shape)


def gram(x: Tensor, out: Tensor) -> Tensor:
    """x x' into `out` for a wide x (size, depth), x' x for a tall one (depth, size)."""
    wide = x if x.shape[-2] <= x.shape[-1] else x.mT
    return _in_blocks(wide, wide.mT, out)


def polynomial(matrix: Tensor, a: float, b: float, c: float, out: Tensor) -> Tensor:
    """a + b * matrix + c * matrix^2 into `out`, for a symmetric matrix.

    The diagonal, where numbers of opposite sign nearly meet, is not rounded before they are summed.
    """
    _in_blocks(matrix, matrix, out, matrix, b, c)
    if a:
        squares = torch.linalg.vector_norm(matrix, dim=-1, dtype=torch.float32).square_()
        diagonal = matrix.diagonal(dim1=-2, dim2=-1).float()
        out.diagonal(dim1=-2, dim2=-1).copy_(a + b * diagonal + c * squares)
    return out


def commuting(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """a b into `out`, for symmetric a and b that commute."""
    return _in_blocks(a, b, out)


def multiply(
    a: Tensor, b: Tensor, out: Tensor, plus: Tensor | None = None, beta: float = 0.0, alpha: float = 1.0
) -> None:
    """alpha * a b + beta * plus into `out`, of matrices or stacks of them."""
    multiply_and_add = torch.addmm if out.ndim == 2 else torch.baddbmm
    multiply_and_add(out if plus is None else plus, a, b, beta=beta, alpha=alpha, out=out)


def _in_blocks(
    a: Tensor, b: Tensor, out: Tensor, plus: Tensor | None = None, beta: float = 0.0, alpha: float = 1.0
) -> Tensor:
    """alpha * a b + beta * plus into `out`, which is symmetric."""
    size = out.shape[-1]
    # On MPS whole: results written into parts of a tensor have been wrong there before.
    width = -(-size // 4) if size >= MIRRORED_FROM and out.device.type != "mps" else size
    for start in range(0, size, width):
        rows, rest = slice(start, start + width), slice(start, None)
        added = None if plus is None else plus[..., rows, rest]
        multiply(a[..., rows, :], b[..., rest], out[..., rows, rest], added, beta, alpha)
    for start in range(width, size, width):
        rows = slice(start, start + width)
        out[..., rows, :start].copy_(out[..., :start, rows].mT)
    return out
