"""Memory for weights in pages of 2 MB: decoding streams them all for every token, from 4 KB pages slower."""

import contextlib
import ctypes
import mmap
import sys

import torch
from torch import Tensor

HUGE_BYTES = 2 << 20
BLOCK_BYTES = 64 << 20
"""Asked for at once; what is never written to takes no memory."""
_APART = 64
"""Bytes: tensors begin at a cache line, as torch's own do."""


class HugePages:
    """Gives out host memory for a model's tensors side by side, so that small ones lie in huge pages too.

    It asks Linux for transparent huge pages (Documentation/admin-guide/mm/transhuge.rst), which need no setting up;
    elsewhere it is torch's own memory. A block is given back when none of its tensors is left.
    """

    def __init__(self) -> None:
        self._block: mmap.mmap | None = None
        self._at = self._end = 0

    def zeros(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """A contiguous tensor of zeros, with a storage of its own."""
        if sys.platform != "linux":
            return torch.zeros(shape, dtype=dtype)
        size = shape.numel() * dtype.itemsize
        if self._at + size > self._end:
            self._begin(max(size, BLOCK_BYTES))
        tensor = torch.frombuffer(self._block, dtype=dtype, count=shape.numel(), offset=self._at).view(shape)
        self._at += -(-size // _APART) * _APART
        return tensor

    def _begin(self, size: int) -> None:
        # A huge page begins at a multiple of its size, a mapping anywhere; and the last one is to be whole, too.
        size = -(-size // HUGE_BYTES) * HUGE_BYTES
        self._block = mmap.mmap(-1, size + HUGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(AttributeError, OSError):  # without them it is the same memory in small pages
            self._block.madvise(mmap.MADV_HUGEPAGE)
        address = torch.frombuffer(self._block, dtype=torch.uint8, count=1).data_ptr()
        self._at = -address % HUGE_BYTES
        self._end = self._at + size


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
