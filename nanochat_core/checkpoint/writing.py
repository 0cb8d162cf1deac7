"""Checkpoints as nanochat writes them, with a checksum beside them."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanochat_core.checkpoint.adapters import write_adapter
from nanochat_core.checkpoint.checksums import remove_with_checksum, write_with_checksum
from nanochat_core.checkpoint.one_by_one import Later, size_of, take_part, write_one_by_one
from nanochat_core.model.adapters import adapter_of
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import is_table
from nanochat_core.paths import adapter_path, meta_path, weights_path
from nanochat_core.system.files import write_atomically, write_json
from nanochat_core.tokenizer.tokenizer import Tokenizer


def save_checkpoint(
    folder: Path,
    step: int,
    model: GPT,
    meta: dict[str, Any],
    also: Mapping[Path, Any] | None = None,
    weights: Mapping[str, Tensor | Later] | None = None,
) -> None:
    """Write model, meta and checksums of a step; the meta comes last, so a checkpoint with a meta is complete.

    The dtypes are nanochat's: the embedding tables in bf16, everything else as it is. Of a model with an adapter the
    adapter alone is written, in peft's format; `meta["adapter"]` says of which model it is (`noted_base`). also: what
    else belongs to the checkpoint, file -> content for `write_one_by_one`; it is written before the meta, too. weights:
    the model's, where they are not in its parameters.
    """
    if adapter := adapter_of(model):
        write_adapter(adapter_path(folder, step), adapter, meta["adapter"]["base"])
    for path, content in _contents(folder, step, model, also, weights).items():
        write_with_checksum(path, partial(write_one_by_one, content), size_of(content))
    write_json(meta_path(folder, step), {"step": step, "model_config": model.config.to_meta(), **meta})


def take_part_in_saving(model: GPT, also: Mapping[Path, Any], weights: Mapping[str, Tensor | Later]) -> None:
    """What the ranks do that do not write, while the one that does is in `save_checkpoint` with the same."""
    for content in _contents(Path(), 0, model, also, weights).values():
        take_part(content)


def _contents(
    folder: Path,
    step: int,
    model: GPT,
    also: Mapping[Path, Any] | None,
    weights: Mapping[str, Tensor | Later] | None,
) -> dict[Path, Any]:
    """By file, in the order in which they are written."""
    if adapter_of(model):
        return {**(also or {})}
    named = dict(model.named_parameters()) if weights is None else weights
    return {
        weights_path(folder, step): {name: _as_stored(name, value) for name, value in named.items()},
        **(also or {}),
    }


def _as_stored(name: str, tensor: Tensor | Later) -> Tensor | Later:
    if not is_table(name):
        return tensor
    return Later(tensor.shape, torch.bfloat16, partial(_rounded, tensor))


def _rounded(tensor: Tensor | Later) -> Tensor | None:
    made = tensor.make() if isinstance(tensor, Later) else tensor.detach()
    return None if made is None else made.to(torch.bfloat16)


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
