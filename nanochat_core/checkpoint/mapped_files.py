"""Tensors mapped from a file, read from the file itself by several threads: no page of the mapping is touched.

Copying out of a mapping costs page faults all along, by one thread, and its pages count as this process's memory.
"""

import ctypes
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanochat_core.compute.huge_pages import forget_pages

BLOCK_BYTES = 16 << 20
"""A file's bytes in memory at once while they are converted: few enough to stay in the processor's caches."""
PIECE_BYTES = 4 << 20
"""What one thread reads at once."""
SHARED_BYTES = 1 << 20
"""What one thread reads and works on at once: it stays in the processor's cache."""
MOST_THREADS = 8
"""More do not make a page cache faster."""
_LINE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ (\d+) +(/.*)$", re.MULTILINE)
"""A file's line of /proc/self/maps. In bytes, since a path may hold what ends a line of text: U+2028, a form feed."""


@dataclass(frozen=True)
class _Mapping:
    """Addresses `begin` to `end` of this process hold the file `path` from byte `offset` on."""

    begin: int
    end: int
    offset: int
    inode: int
    path: str


class MappedReader:
    """Reads tensors that `read_weights` mapped and that were not written to. To be used in a `with` block.

    Where a tensor lies in its file, Linux says (/proc/self/maps, proc(5)). Elsewhere, without /proc, for a tensor in
    memory, and when another file has taken the name meanwhile, what is in memory is copied instead: the same values.
    """

    def __init__(self) -> None:
        self._mappings = _file_mappings()
        self._files: dict[str, int | None] = {}
        self._threads = ThreadPoolExecutor(min(MOST_THREADS, torch.get_num_threads()))
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._own = threading.local()

    def __enter__(self) -> "MappedReader":
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for file in self._files.values():
            if file is not None:
                os.close(file)

    def fill(self, target: Tensor, stored: Tensor) -> None:
        """`stored` into `target`, a contiguous tensor in host memory of its shape and dtype.

        ValueError when the file has become shorter, or cannot be read.
        """
        place = self._place_of(stored)
        if place:
            self._read(*place, target)
        else:
            target.copy_(stored)
            self._forget(stored)

    def blocks(self, stored: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """(rows, these rows of `stored`), one block after the other: each may lie where the one before lay."""
        place = self._place_of(stored)
        for rows in _slices(stored, BLOCK_BYTES):
            part = stored[rows]
            if place:
                block = self._buffer_of(part.nbytes).view(part.dtype).view(part.shape)
                self.fill(block, part)
                yield rows, block
            else:
                yield rows, part
                self._forget(part)

    def share_out(self, stored: Tensor, work: Callable[[slice, Tensor], None]) -> None:
        """Call `work` with (rows, these rows of `stored`) for all rows, from several threads, each with a few of them.

        What it is given is its own during the call only. Raises what `fill` raises.
        """
        place = self._place_of(stored)

        def do(rows: slice) -> None:
            part = stored[rows]
            if place is None:
                work(rows, part)
                self._forget(part)
                return
            file, path, offset = place
            if len(getattr(self._own, "buffer", ())) < part.nbytes:
                self._own.buffer = torch.empty(part.nbytes, dtype=torch.uint8)
            block = self._own.buffer[: part.nbytes].view(part.dtype).view(part.shape)
            _read_piece(file, path, offset + part.data_ptr() - stored.data_ptr(), _memory_of(block))
            work(rows, block)

        self._do_all(self._threads.submit(do, rows) for rows in _slices(stored, SHARED_BYTES))

    def _do_all(self, pieces: Iterable[Future[Any]]) -> None:
        pieces = list(pieces)
        wait(pieces)  # all of them, before the memory may be given back because one has failed
        for piece in pieces:
            piece.result()

    def _buffer_of(self, size: int) -> Tensor:
        if len(self._buffer) < size:
            self._buffer = torch.empty(size, dtype=torch.uint8)
        return self._buffer[:size]

    def _mapping_of(self, stored: Tensor) -> _Mapping | None:
        begin, end = stored.data_ptr(), stored.data_ptr() + stored.nbytes
        return next((found for found in self._mappings if found.begin <= begin and end <= found.end), None)

    def _place_of(self, stored: Tensor) -> tuple[int, str, int] | None:
        """(the file, opened, its path, the offset) of a tensor; None when it cannot be read from there."""
        mapping = self._mapping_of(stored)
        if mapping is None or not stored.is_contiguous():
            return None
        if mapping.path not in self._files:
            self._files[mapping.path] = _opened(mapping)
        file = self._files[mapping.path]
        return None if file is None else (file, mapping.path, mapping.offset + stored.data_ptr() - mapping.begin)

    def _forget(self, stored: Tensor) -> None:
        if self._mapping_of(stored):  # memory that is no file's would be lost
            forget_pages(stored)

    def _read(self, file: int, path: str, offset: int, target: Tensor) -> None:
        memory, begins = _memory_of(target), range(0, target.nbytes, PIECE_BYTES)
        self._do_all(
            self._threads.submit(_read_piece, file, path, offset + begin, memory[begin : begin + PIECE_BYTES])
            for begin in begins
        )


def _slices(stored: Tensor, size: int) -> Iterator[slice]:
    """Slices of rows that have `size` bytes together, or of one row that has more."""
    assert stored.ndim > 0, "a single number has no rows"
    count = max(1, size * len(stored) // max(1, stored.nbytes))
    for begin in range(0, len(stored), count):
        yield slice(begin, begin + count)


def _memory_of(tensor: Tensor) -> memoryview:
    return memoryview((ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())).cast("B")


def _read_piece(file: int, path: str, offset: int, memory: memoryview) -> None:
    """Fill `memory` with the file's bytes from `offset` on."""
    while memory:
        try:
            count = os.preadv(file, [memory], offset)
        except OSError as error:
            raise ValueError(
                f"{path} cannot be read ({error.strerror}). Check its disk, or download it again."
            ) from error
        if count == 0:
            raise ValueError(
                f"{path} ends at byte {offset:,}, in the middle of the weights: it was cut short while it was read. "
                "Download or save it again."
            )
        memory, offset = memory[count:], offset + count


def _opened(mapping: _Mapping) -> int | None:
    try:
        file = os.open(mapping.path, os.O_RDONLY)
    except OSError:  # removed or renamed: its content is still mapped
        return None
    if os.fstat(file).st_ino == mapping.inode:
        return file
    os.close(file)
    return None


def _file_mappings() -> list[_Mapping]:
    if sys.platform != "linux":
        return []
    try:
        lines = Path("/proc/self/maps").read_bytes()
    except OSError:  # not mounted, or not for this process
        return []
    return [
        _Mapping(int(begin, 16), int(end, 16), int(offset, 16), int(inode), os.fsdecode(path))
        for begin, end, offset, inode, path in _LINE.findall(lines)
    ]
