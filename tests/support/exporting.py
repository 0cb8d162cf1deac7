"""Tiny models to export, and ids to ask them of."""

from pathlib import Path

import torch

from nanochat_core.checkpoint.writing import save_checkpoint, save_tokenizer
from tests.support.tiny import tiny_model, tiny_tokenizer


def random_ids(vocab_size: int = 512, rows: int = 2, length: int = 120) -> torch.Tensor:
    return torch.randint(vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))


def tiny_folder(path: Path, **changes) -> Path:
    """A folder that holds one tiny model."""
    path.mkdir()
    save_checkpoint(path, 7, tiny_model(**changes), {"val_bpb": 1.0})
    save_tokenizer(path, tiny_tokenizer())
    return path
