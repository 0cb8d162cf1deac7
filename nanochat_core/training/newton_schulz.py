"""Newton-Schulz by compiled code, for processors with AVX512-BF16: all steps of a matrix in one call.

In c/newton_schulz.c each product is written as the next one reads it, so that all of it runs at nearly the processor's
own rate; and more is kept of what is added than torch's operators can. So wide matrices need fewer passes than in
muon.py, at a smaller error.
"""

import ctypes

import torch
from torch import Tensor

from nanochat_core.native.build import library
from nanochat_core.training.symmetric import Buffers

_pointer, _count, _real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_MOST_STEPS = 5
_WIDE_FROM = 1.5
"""Columns to a row from which fewer passes pay."""
_LARGE_FROM = 256
"""Rows from which they do: below little is won, and a result may be farther from the exact one than torch's Muon's."""
_PANEL = 16


class _Request(ctypes.Structure):
    """`request` of c/newton_schulz.c."""

    _fields_ = [
        *((name, _count) for name in ("rows", "columns")),
        *((name, _pointer) for name in ("from", "to", "memory", "norm")),
        ("coefficients", _real * 3),
        ("passes", _count * _MOST_STEPS),
        ("threads", _count),
    ]


def _compiled() -> ctypes.CDLL | None:
    return library("newton_schulz", request=_Request)


def can_orthogonalize(device: torch.device) -> bool:
    """Whether there is compiled code for it, and it is the fastest: with AMX torch multiplies faster still."""
    if device.type != "cpu" or not torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return False
    compiled = _compiled()
    return compiled is not None and bool(compiled.newton_schulz_exists())


def passes_over(rows: int, columns: int) -> tuple[int, ...]:
    """How many of the five steps each pass over a matrix takes."""
    small, large = sorted((rows, columns))
    # What is lost in a pass matters most where singular values are small now, and will be large.
    return (3, 2) if small >= _LARGE_FROM and large >= _WIDE_FROM * small else (1, 1, 1, 1, 1)


def orthogonalize_compiled(x: Tensor, norm: Tensor, coefficients: tuple[float, float, float], kept: Buffers) -> Tensor:
    """Five steps with coefficients (a, b, c) on x / norm, where `can_orthogonalize`.

    x (rows, columns) is contiguous; norm, an fp32 scalar, is not less than its Frobenius norm. Returns fp32, in x's
    memory where x is fp32, too.
    """
    x = x.float()
    assert x.is_contiguous()
    assert norm.dtype == torch.float32
    compiled, (small, large) = _compiled(), sorted(x.shape)
    assert compiled is not None, "not where can_orthogonalize says no"
    compiled.newton_schulz_words.restype = _count
    words = compiled.newton_schulz_words(_count(small), _count(large))
    request = _Request(
        *x.shape,
        *(x.data_ptr(), x.data_ptr()),
        *(kept.take("newton_schulz", (words,), torch.int32, x.device).data_ptr(), norm.data_ptr()),
        (_real * 3)(*coefficients),
        (_count * _MOST_STEPS)(*passes_over(small, large)),
        min(torch.get_num_threads(), -(-small // _PANEL)),
    )
    compiled.newton_schulz(ctypes.byref(request))
    return x
