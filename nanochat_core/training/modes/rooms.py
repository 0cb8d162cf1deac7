"""Where a training keeps what it computes with only once a step: on the device, or in the host's memory.

For a GPU the host's memory is pinned, so that it copies by itself. A CPU has no other memory than the host's: there the
room is a file that is mapped, and whose pages are given back after each use, so that the process holds only what it
works on. The system writes them to the disk when it needs their memory, and it may keep them until then.
"""

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import torch
from torch import Tensor

from nanochat_core.compute.huge_pages import forget_pages
from nanochat_core.system.disk import writing

_ALIGNED = 256

Spec = tuple[Sequence[int], torch.dtype]
"""Shape and type of a tensor."""


class Room(Protocol):
    """Gives memory, and takes note that it will not be used for a while."""

    def tensors(self, specs: Sequence[Spec]) -> list[Tensor]:
        """Contiguous tensors of zeros."""

    def rest(self, tensors: Iterable[Tensor]) -> None:
        """These tensors, or parts of some, are not used for a while; their content stays."""


class DeviceRoom:
    """Memory of a device, or of the host where `pinned` for a GPU."""

    def __init__(self, device: torch.device, *, pinned: bool = False):
        self._device, self._pinned = device, pinned

    def tensors(self, specs: Sequence[Spec]) -> list[Tensor]:
        """Contiguous tensors of zeros."""
        if self._pinned:
            return in_slabs(specs, lambda size: torch.zeros(size, dtype=torch.uint8, pin_memory=True))
        return [torch.zeros(tuple(shape), dtype=dtype, device=self._device) for shape, dtype in specs]

    def rest(self, tensors: Iterable[Tensor]) -> None:
        """There is nothing to be done."""


def in_slabs(specs: Sequence[Spec], allocate: Callable[[int], Tensor], most: int = 1 << 30) -> list[Tensor]:
    """Tensors of these specs in few pieces of bytes, each of a power of two: the largest first, where there is room.

    torch rounds every piece of pinned memory up to one (torch.cuda.memory.host_memory_stats): d34's tensors by
    themselves would take 1.8 times their bytes. Each has a storage of its own: of a shared one a file would get all.
    most: bytes of a piece that holds several.
    """
    bytes_ = [math.prod(shape) * dtype.itemsize for shape, dtype in specs]
    left, found = sum(bytes_), {}
    slabs: list[_Slab] = []
    for place in sorted(range(len(specs)), key=lambda place: -bytes_[place]):
        size = bytes_[place]
        slab = next((one for one in slabs if one.free >= size), None)
        if slab is None:
            slab = _Slab(allocate(max(_power_from(size), min(most, _power_from(left + 1) // 2))))
            slabs.append(slab)
        shape, dtype = specs[place]
        found[place] = slab.take(math.prod(shape), dtype).view(tuple(shape))
        left -= size
    return [found[place] for place in range(len(specs))]


@dataclass
class _Slab:
    memory: Tensor
    at: int = 0

    @property
    def free(self) -> int:
        return len(self.memory) - self.at

    def take(self, count: int, dtype: torch.dtype) -> Tensor:
        """The next numbers; what follows them begins in a new line of the cache."""
        start, self.at = self.at, self.at + -(-count * dtype.itemsize // _ALIGNED) * _ALIGNED
        if not count:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self.memory.numpy(), dtype=dtype, count=count, offset=start)


def _power_from(number: int) -> int:
    """The least power of two that is no less."""
    return 1 << max(0, number - 1).bit_length()


class FileRoom:
    """A CPU's: files without a name in a folder. Nothing is left of them when the process ends, however it does."""

    def __init__(self, folder: Path):
        self._folder = folder

    def tensors(self, specs: Sequence[Spec]) -> list[Tensor]:
        """Contiguous tensors of zeros, each from a page of its own on. OSError when the disk has no room for them."""
        sizes = [-(-math.prod(shape) * dtype.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE for shape, dtype in specs]
        total = sum(sizes)
        if not total:
            return []
        # The disk's blocks are asked for now: a write to a mapped page that has none would end the process.
        with writing(self._folder, total), tempfile.TemporaryFile(dir=self._folder) as file:
            _reserve(file, total)
            mapped = mmap.mmap(file.fileno(), total)
        found, at = [], 0
        for (shape, dtype), size in zip(specs, sizes):
            flat = torch.frombuffer(mapped, dtype=dtype, count=math.prod(shape), offset=at)
            found.append(flat.view(tuple(shape)))
            at += size
        return found

    def rest(self, tensors: Iterable[Tensor]) -> None:
        """Give their pages back to the system, which still has them."""
        for tensor in tensors:
            forget_pages(tensor)


def _reserve(file: BinaryIO, total: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, total)
        return
    while file.tell() < total:
        file.write(bytes(min(1 << 20, total - file.tell())))
    file.flush()


def host_room(device: torch.device, folder: Path | None) -> Room:
    """The room beside `device`. folder: for the files of a CPU, without it that of temporary files."""
    if device.type == "cpu":
        return FileRoom(folder or Path(tempfile.gettempdir()))
    if device.type == "meta":
        return DeviceRoom(device)
    return DeviceRoom(torch.device("cpu"), pinned=device.type == "cuda")
