"""Writing safetensors files tensor by tensor, split over several when they get large.

The safetensors library wants all tensors of a file in memory at once; here only the one being written is. Reading
is left to the library. The format: eight bytes with the length of a JSON header, the header, then the tensors' bytes.
"""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_SHARD_BYTES = 5_000_000_000
"""What the hub's tools take as the largest comfortable file."""

_DTYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}


def write_shards(folder: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Write `tensors` as `dtype` into model.safetensors, or into several files when they are more than MAX_SHARD_BYTES.

    Those are model-00001-of-0000n.safetensors and model.safetensors.index.json, which says what lies where.
    """
    shards = _shards(tensors, dtype)
    if len(shards) == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return
    places: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(folder / file_name, {name: tensors[name] for name in names}, dtype)
        places |= dict.fromkeys(names, file_name)
    total = sum(_size(tensor, dtype) for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Write one safetensors file of `tensors`, each converted to `dtype` as its turn comes; on the disk at return."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + _size(tensor, dtype)
        entries[name] = {"dtype": _DTYPE_NAMES[dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of eight bytes
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)))
        file.write(header)
        for tensor in tensors.values():
            file.write(tensor.detach().to("cpu", dtype).contiguous().flatten().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())


def _shards(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> list[list[str]]:
    """The tensors' names in order, a list for each file."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in tensors.items():
        size = _size(tensor, dtype)
        if shards[-1] and filled + size > MAX_SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _size(tensor: Tensor, dtype: torch.dtype) -> int:
    return tensor.numel() * dtype.itemsize
