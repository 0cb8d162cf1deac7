"""Memory for weights in pages of 2 MB: decoding streams them all for every token, from 4 KB pages at half the speed."""

import contextlib
import ctypes
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


def huge_zeros(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """The same, of zeros: what the system gives out is zero already, and takes no memory until it is touched."""
    is_mapped = shape.numel() * dtype.itemsize >= HUGE_BYTES and sys.platform == "linux"
    return huge_empty(shape, dtype) if is_mapped else torch.zeros(shape, dtype=dtype)


def forget_pages(tensor: Tensor) -> None:
    """Give back the memory of a mapped tensor that was copied elsewhere; the file still has it.

    The system would do so by itself once memory is short. Until then the process looks, and a container is
    accounted, as if it held the weights twice.
    """
    if sys.platform != "linux":
        return
    page = mmap.PAGESIZE
    start = -(-tensor.data_ptr() // page) * page  # whole pages only: the neighbours' may not be read yet
    size = (tensor.data_ptr() + tensor.nbytes - start) // page * page
    if size > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)
