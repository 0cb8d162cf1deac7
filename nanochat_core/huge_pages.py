"""Memory for weights in pages of 2 MB: decoding streams them all for every token, from 4 KB pages at half the speed."""

import contextlib
import mmap
import sys

import torch
from torch import Tensor

HUGE_BYTES = 2 << 20


def huge_empty(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor of host memory, contiguous; in huge pages where it fills one and the system has them.

    It asks Linux for transparent huge pages (Documentation/admin-guide/mm/transhuge.rst), which need no setting up.
    """
    size = shape.numel() * dtype.itemsize
    if size < HUGE_BYTES or sys.platform != "linux":
        return torch.empty(shape, dtype=dtype)
    # A huge page begins at a multiple of its size, a mapping anywhere: one page more, so that the tensor does too.
    block = mmap.mmap(-1, size + HUGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):  # without them it is the same memory in small pages
        block.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(block, dtype=torch.uint8)  # keeps the mapping for as long as it is used
    start = -whole.data_ptr() % HUGE_BYTES
    return whole[start : start + size].view(dtype).view(shape)
