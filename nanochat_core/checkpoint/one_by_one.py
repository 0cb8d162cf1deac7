"""Files that torch.load reads, written with one tensor in memory at a time.

torch.save is given everything at once: d32's weights and optimizer state would come to 15 GiB of the host's memory for
each checkpoint, whatever the card holds. The format is torch.save's (torch/serialization.py): a zip archive of stored
records, in which `data.pkl` has the content with each tensor's storage as ("storage", its type, key, "cpu", numbers),
`data/<key>` has the numbers, each from a multiple of 64 bytes of the file on, so that a mapped file is read in place.
"""

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

_TYPES = {torch.float32: torch.FloatStorage, torch.bfloat16: torch.BFloat16Storage, torch.float16: torch.HalfStorage}
_ALIGNED = 64
_HEADER, _ZIP64, _PADDING = 30, 20, 4
"""Bytes of a record's header without its name, of the sizes that are added to it, and of a padding of no bytes."""
_PADDING_ID = 0x4246
"""Of the extra field in which torch pads, too (caffe2/serialize/inline_container.cc)."""


@dataclass(frozen=True)
class Later:
    """A tensor that is made when its turn comes, and forgotten when it is written."""

    shape: torch.Size
    dtype: torch.dtype
    make: Callable[[], Tensor | None]
    """None on a rank that only takes part in making it."""
    done: Callable[[], object] = lambda: None
    """Called when it is written."""

    @property
    def nbytes(self) -> int:
        return self.shape.numel() * self.dtype.itemsize


def write_one_by_one(content: Any, file: BinaryIO) -> None:
    """Write nested tables and lists with tensors, also those for Later, to a file that can be sought in."""
    pickled, tensors = _pickled(content)
    with zipfile.ZipFile(file, "w") as archive:
        _record(archive, file, "data.pkl", pickled)
        _record(archive, file, ".format_version", b"1")
        _record(archive, file, ".storage_alignment", str(_ALIGNED).encode())
        _record(archive, file, "byteorder", sys.byteorder.encode())
        for key, tensor in enumerate(tensors):
            _record(archive, file, f"data/{key}", _bytes_of(_made(tensor)))
            if isinstance(tensor, Later):
                tensor.done()
        _record(archive, file, "version", b"3\n")


def take_part(content: Any) -> None:
    """Make what is for Later in the order of `write_one_by_one`, as ranks do that the writing one needs for it."""
    for tensor in _pickled(content)[1]:
        if isinstance(tensor, Later):
            tensor.make()
            tensor.done()


def size_of(content: Any) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in _pickled(content)[1])


def _pickled(content: Any) -> tuple[bytes, list[Tensor | Later]]:
    """(the pickle, its tensors in order)."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump(content)
    return buffer.getvalue(), pickler.tensors


@dataclass(frozen=True)
class _Storage:
    key: int
    dtype: torch.dtype
    numbers: int


class _Pickler(pickle.Pickler):
    def __init__(self, file: BinaryIO):
        super().__init__(file, protocol=2)
        self.tensors: list[Tensor | Later] = []

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, _Storage):
            return None
        return ("storage", _TYPES[value.dtype], str(value.key), "cpu", value.numbers)

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Tensor | Later):
            return NotImplemented
        storage = _Storage(len(self.tensors), value.dtype, value.shape.numel())
        self.tensors.append(value)
        strides = torch.empty(value.shape, device="meta").stride()
        return torch._utils._rebuild_tensor_v2, (storage, 0, tuple(value.shape), strides, False, OrderedDict())


def _made(tensor: Tensor | Later) -> Tensor:
    if not isinstance(tensor, Later):
        return tensor
    made = tensor.make()
    assert made is not None, "the rank that writes is given every tensor"
    assert (made.shape, made.dtype) == (tensor.shape, tensor.dtype)
    return made


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def _record(archive: zipfile.ZipFile, file: BinaryIO, name: str, data: bytes | memoryview) -> None:
    record = zipfile.ZipInfo(f"archive/{name}")
    before = file.tell() + _HEADER + len(record.filename) + _ZIP64 + _PADDING
    padding = -before % _ALIGNED
    record.extra = struct.pack("<HH", _PADDING_ID, padding) + bytes(padding)
    record.file_size = len(data)
    with archive.open(record, "w", force_zip64=True) as target:
        target.write(data)
