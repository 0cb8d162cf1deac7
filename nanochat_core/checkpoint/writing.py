"""Checkpoints as nanochat writes them, with a checksum beside them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanochat_core.model.generations import is_table
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import meta_path, weights_path
from nanochat_core.system.files import sha256_of, write_atomically, write_json
from nanochat_core.tokenizer.tokenizer import Tokenizer


def save_checkpoint(folder: Path, step: int, model: GPT, meta: dict[str, Any]) -> None:
    """Write model, checksum and meta of a step; the meta comes last, so a checkpoint with a meta is complete.

    The dtypes are nanochat's: the embedding tables in bf16, everything else as it is.
    """
    weights = {name: _as_stored(name, parameter.detach()) for name, parameter in model.named_parameters()}
    path = weights_path(folder, step)
    write_atomically(path, lambda file: torch.save(weights, file))
    write_atomically(checksum_path(path), f"{sha256_of(path)}  {path.name}\n".encode())
    write_json(meta_path(folder, step), {"step": step, "model_config": model.config.to_meta(), **meta})


def checksum_path(path: Path) -> Path:
    """Where a file's SHA-256 lies, in the format of sha256sum."""
    return path.with_name(f"{path.name}.sha256")


def verify_checksum(path: Path) -> None:
    """ValueError when `path` does not have the SHA-256 that lies beside it; nothing where none does."""
    noted = checksum_path(path)
    if noted.is_file() and noted.read_text().split()[0] != sha256_of(path):
        raise ValueError(f"{path} has changed since it was saved (its SHA-256 differs). Use another checkpoint.")


def remove_checkpoint(folder: Path, step: int) -> None:
    """Delete a step's files, the meta first, so that a half-deleted checkpoint is an incomplete one."""
    path = weights_path(folder, step)
    for file in (meta_path(folder, step), checksum_path(path), path):
        file.unlink(missing_ok=True)


def _as_stored(name: str, tensor: Tensor) -> Tensor:
    return tensor.to("cpu", torch.bfloat16) if is_table(name) else tensor.cpu()


def save_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Put the tokenizer and nanochat's token_bytes.pt beside the checkpoints, so that the folder is a whole model."""
    tokenizer.save(folder / "tokenizer.pkl")
    sizes = torch.tensor(tokenizer.token_bytes(), dtype=torch.int32)
    write_atomically(folder / "token_bytes.pt", lambda file: torch.save(sizes, file))
