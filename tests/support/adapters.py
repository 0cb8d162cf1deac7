"""Adapters as runs with LoRA leave them, made on the spot."""

import torch

from nanochat_core.checkpoint.loading import load_model
from nanochat_core.checkpoint.reading import noted_base
from nanochat_core.checkpoint.writing import save_checkpoint, save_tokenizer
from nanochat_core.model.adapters import Adapter, attach, new_adapter
from nanochat_core.paths import find_model

ALL = ("attn.c_q", "attn.c_k", "attn.c_v", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


def random_adapter(model, targets=ALL, rank: int = 4, seed: int = 3) -> Adapter:
    """One that changes what the model says."""
    adapter = new_adapter(model, targets, rank, 8, seed)
    generator = torch.Generator().manual_seed(seed)
    matrices = {n: (a, torch.randn(b.shape, generator=generator) * 0.1) for n, (a, b) in adapter.matrices.items()}
    return Adapter(rank, 8, matrices)


def install_adapter(home, tag: str, seed: int, base: str = "pretrained/tiny") -> str:
    """Put an adapter of `base` where a run with LoRA leaves it under `home`; its NAME."""
    folder = home / "models" / "finetuned" / tag
    folder.mkdir(parents=True)
    model, tokenizer, _ = load_model(base)
    attach(model, random_adapter(model, seed=seed))
    save_checkpoint(folder, 5, model, {"adapter": noted_base(find_model(base), "sft")})
    save_tokenizer(folder, tokenizer)
    return f"finetuned/{tag}"
