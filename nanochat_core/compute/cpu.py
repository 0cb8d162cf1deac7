"""Settings of a training process: memory that stays, and the faster of torch's libraries for fp32 products."""

import ctypes
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""The names of glibc's malloc.h."""


def prepare_computing() -> None:
    """Settings of this process with which training on a CPU is faster, and its results the same."""
    _keep_freed_memory()
    _choose_products()


def _keep_freed_memory() -> None:
    """Let glibc hand freed blocks out again instead of back to the system: a page's first touch costs 10 reads."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _choose_products() -> None:
    """oneDNN for fp32 products where it is faster than torch's usual library and computes in fp32 all the same.

    The setting allows it to round to bf16 first, and on some processors it does: so a product is tried.
    """
    torch.set_float32_matmul_precision("medium")
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    if ((a @ b).double() - exact).norm() > 1e-6 * exact.norm():
        torch.set_float32_matmul_precision("highest")
