"""Checkpoints as nanochat writes them, with a checksum beside them."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from nanochat_core.checkpoint.adapters import write_adapter
from nanochat_core.checkpoint.checksums import remove_with_checksum, write_with_checksum
from nanochat_core.model.adapters import adapter_of
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import is_table
from nanochat_core.paths import adapter_path, meta_path, weights_path
from nanochat_core.system.files import write_atomically, write_json
from nanochat_core.tokenizer.tokenizer import Tokenizer

RESTED_BYTES = 32 << 20


@dataclass(frozen=True)
class Weights:
    """A model's weights beside it."""

    by_name: Mapping[str, Tensor]
    rest: Callable[[], object]
    """Called now and then while they are written: what was read from a mapped file need not stay in memory."""


def save_checkpoint(
    folder: Path,
    step: int,
    model: GPT,
    meta: dict[str, Any],
    also: Mapping[Path, Any] | None = None,
    weights: Weights | None = None,
) -> None:
    """Write model, meta and checksums of a step; the meta comes last, so a checkpoint with a meta is complete.

    The dtypes are nanochat's: the embedding tables in bf16, everything else as it is. Of a model with an adapter the
    adapter alone is written, in peft's format; `meta["adapter"]` says of which model it is (`noted_base`). also: what
    else belongs to the checkpoint, file -> content for torch.save; it is written before the meta, too. weights: the
    model's, where they are not in its parameters.
    """
    contents: dict[Path, Any] = {}
    if adapter := adapter_of(model):
        write_adapter(adapter_path(folder, step), adapter, meta["adapter"]["base"])
    else:
        named = dict(model.named_parameters()) if weights is None else weights.by_name
        contents[weights_path(folder, step)] = {name: _as_stored(name, value.detach()) for name, value in named.items()}
    for path, content in {**contents, **(also or {})}.items():
        write_with_checksum(path, partial(_save, content, weights.rest if weights else None), _size(content))
    write_json(meta_path(folder, step), {"step": step, "model_config": model.config.to_meta(), **meta})


def _save(content: Any, rest: Callable[[], object] | None, file: BinaryIO) -> None:
    torch.save(content, cast("BinaryIO", _Resting(file, rest)) if rest else file)


class _Resting:
    """A file to be written that gives notice at every RESTED_BYTES."""

    def __init__(self, file: BinaryIO, rest: Callable[[], object]):
        self._file, self._rest, self._since = file, rest, 0

    def write(self, data: bytes) -> int:
        """As of a file."""
        self._since += len(data)
        written = self._file.write(data)
        if self._since >= RESTED_BYTES:
            self._since = 0
            self._rest()
        return written

    def flush(self) -> None:
        """As of a file."""
        self._file.flush()


def _size(content: Any) -> int:
    """Bytes of all tensors in nested tables and lists."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
    return sum(map(_size, parts))


def _as_stored(name: str, tensor: Tensor) -> Tensor:
    return tensor.to("cpu", torch.bfloat16) if is_table(name) else tensor.cpu()


def save_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Put the tokenizer and nanochat's token_bytes.pt beside the checkpoints, so that the folder is a whole model."""
    tokenizer.save(folder / "tokenizer.pkl")
    sizes = torch.tensor(tokenizer.token_bytes(), dtype=torch.int32)
    write_atomically(folder / "token_bytes.pt", partial(torch.save, sizes))


def remove_checkpoint(folder: Path, step: int) -> None:
    """Delete a step's files, the meta first, so that a half-deleted checkpoint is an incomplete one."""
    meta_path(folder, step).unlink(missing_ok=True)
    remove_with_checksum(weights_path(folder, step))
    shutil.rmtree(adapter_path(folder, step), ignore_errors=True)
