"""Products of matrices that are known to be symmetric, at little more than half their cost.

On processors with AVX512-BF16 by compiled code, elsewhere by torch: in rows of blocks from the diagonal on, mirrored.
"""

import ctypes
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from nanochat_core.native import library

_pointer, _count, _real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
MULTIPLE = 16
"""The compiled code takes sizes that are multiples of it."""
MIRRORED_FROM = 384
"""Rows from which it pays to mirror: the smaller products of blocks are slower for their size."""


class _Product(ctypes.Structure):
    """`product` of c/symmetric.c."""

    _fields_ = [
        *((name, _count) for name in ("size", "depth")),
        *((name, _pointer) for name in ("a", "b")),
        ("a_is_transposed", _count),
        *((name, _pointer) for name in ("a_packed", "b_packed", "plus", "out")),
        *((name, _real) for name in ("alpha", "beta", "shift")),
        ("threads", _count),
    ]


class Buffers:
    """Memory by name, kept for the next matrix and the next step: on a CPU fresh memory costs ten times its use."""

    def __init__(self):
        self._flat: dict[tuple, Tensor] = {}

    def take(self, name: str, shape: Iterable[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor of this shape with whatever was last written to `name`."""
        key, count = (name, dtype, device), math.prod(shape)
        if key not in self._flat or self._flat[key].numel() < count:
            self._flat[key] = torch.empty(count, dtype=dtype, device=device)
        return self._flat[key][:count].view(shape)


class SymmetricProducts:
    """The two kinds that Newton-Schulz needs, of matrices (size, size) or stacks of them (count, size, size)."""

    def __init__(self, kept: Buffers, compiled: bool = True):
        self._kept, self._compiled = kept, compiled

    def gram(self, x: Tensor, out: Tensor) -> None:
        """x x' into `out` for a wide x (size, depth), x' x for a tall one (depth, size)."""
        is_wide = x.shape[-2] <= x.shape[-1]
        if self._can(x, max(x.shape)):
            return self._call(x, None, out, is_wide)
        wide = x if is_wide else x.mT
        _in_blocks(wide, wide.mT, out)

    def polynomial(self, gram: Tensor, a: float, b: float, c: float, out: Tensor) -> Tensor:
        """a + b * gram + c * gram^2 into `out`, for a symmetric `gram`.

        The diagonal, where numbers of opposite sign nearly meet, is not rounded before they are summed.
        """
        if self._can(gram, gram.shape[-1]):
            self._call(gram, None, out, False, plus=gram, alpha=c, beta=b, shift=a)
            return out
        _in_blocks(gram, gram, out, gram, b, c)
        if not a:
            return out
        squares = torch.linalg.vector_norm(gram, dim=-1, dtype=torch.float32).square_()
        diagonal = gram.diagonal(dim1=-2, dim2=-1).float()
        out.diagonal(dim1=-2, dim2=-1).copy_(a + b * diagonal + c * squares)
        return out

    def commuting(self, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        """a b into `out`, for symmetric a and b that commute."""
        if self._can(a, a.shape[-1]):
            self._call(a, b, out, False)
        else:
            _in_blocks(a, b, out)
        return out

    def _can(self, x: Tensor, depth: int) -> bool:
        fits = x.ndim == 2 and x.device.type == "cpu" and x.dtype == torch.bfloat16
        return fits and self._compiled and not (min(x.shape) % MULTIPLE or depth % MULTIPLE) and _library() is not None

    def _call(self, a: Tensor, b: Tensor | None, out: Tensor, a_is_transposed: bool, **values) -> None:
        assert all(tensor is None or tensor.is_contiguous() for tensor in (a, b, out))
        plus = values.pop("plus", None)
        packed = [self._kept.take(name, a.shape, a.dtype, a.device).data_ptr() for name in ("packed a", "packed b")]
        product = _Product(
            *(min(a.shape), max(a.shape)),
            *(a.data_ptr(), None if b is None else b.data_ptr(), a_is_transposed),
            *(*packed, None if plus is None else plus.data_ptr(), out.data_ptr()),
            *(values.get("alpha", 1.0), values.get("beta", 0.0), values.get("shift", 0.0)),
            torch.get_num_threads(),
        )
        _library().symmetric_product(ctypes.byref(product))


def _library() -> ctypes.CDLL | None:
    """The compiled code where it is the fastest: processors with AMX multiply faster still, by torch."""
    if not torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return None
    compiled = library("symmetric")
    return compiled if compiled is not None and compiled.symmetric_product_exists() else None


def multiply(
    a: Tensor, b: Tensor, out: Tensor, plus: Tensor | None = None, beta: float = 0.0, alpha: float = 1.0
) -> None:
    """alpha * a b + beta * plus into `out`, of matrices or stacks of them."""
    multiply_and_add = torch.addmm if out.ndim == 2 else torch.baddbmm
    multiply_and_add(out if plus is None else plus, a, b, beta=beta, alpha=alpha, out=out)


def _in_blocks(
    a: Tensor, b: Tensor, out: Tensor, plus: Tensor | None = None, beta: float = 0.0, alpha: float = 1.0
) -> None:
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
