"""The optimizers of nanochat's finetuning recipe: Muon for the blocks' matrices, AdamW for everything else.

Muon orthogonalizes the momentum of each matrix with five Newton-Schulz steps (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/); torch.optim.Muon computes nanochat's rule when its learning rate
is adjusted the "original" way, by sqrt(max(1, rows/columns)). With several processes each keeps the state of
its own share of the parameters only (ZeRO stage 1, Rajbhandari et al., arXiv 1910.02054).
"""

from collections.abc import Iterable

import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import AdamW, Muon, Optimizer

from nanochat_core.config import FinetuneConfig
from nanochat_core.model import GPT

MUON = {"momentum": 0.95, "nesterov": True, "weight_decay": 0.0, "adjust_lr_fn": "original", "ns_steps": 5, "eps": 1e-7}
ADAMW = {"betas": (0.8, 0.95), "eps": 1e-10}


def build_optimizers(model: GPT, config: FinetuneConfig) -> list[Optimizer]:
    """[Muon, AdamW] over all parameters of `model`, at the learning rates of `config` before any schedule.

    AdamW's rates for the tables scale with (n_embd/768)^-0.5, as nanochat tuned them at 768 channels. The
    scalars and small gates of the later generations take the output head's rate. Every parameter group
    notes its `initial_lr`, from which `set_learning_rates` derives the present one.
    """
    scale = (model.config.n_embd / 768) ** -0.5
    matrices, tables, scalars = [], [], []
    for name, parameter in model.named_parameters():
        if name == "transformer.wte.weight" or name.startswith("value_embeds."):
            tables.append(parameter)
        elif name.startswith("transformer.h.") and parameter.ndim == 2:
            matrices.append(parameter)
        elif name != "lm_head.weight":
            scalars.append(parameter)
    groups = [
        {"params": [model.lm_head.weight], "lr": config.unembedding_lr * scale, "weight_decay": config.weight_decay},
        {"params": tables, "lr": config.embedding_lr * scale, "weight_decay": config.weight_decay},
    ]
    if scalars:
        groups.append({"params": scalars, "lr": config.unembedding_lr, "weight_decay": 0.0})
    fused = model.device.type in ("cpu", "cuda")  # on a CPU 8 times the speed of the loop over tensors
    optimizers = [
        _sharded(Muon, [{"params": matrices, "lr": config.matrix_lr}], **MUON),
        _sharded(AdamW, groups, fused=fused, **ADAMW),
    ]
    for group in _groups(optimizers):
        group["initial_lr"] = group["lr"]
    return optimizers


def learning_rate_multiplier(step: int, steps: int, init_lr_frac: float) -> float:
    """Factor on every learning rate at the `step`-th of `steps` (from 0): init_lr_frac, falling linearly to 0."""
    return init_lr_frac * (1.0 - step / steps)


def set_learning_rates(optimizers: Iterable[Optimizer], multiplier: float) -> None:
    """Set every group's rate to its initial one times `multiplier`."""
    for group in _groups(optimizers):
        group["lr"] = group["initial_lr"] * multiplier


def collect_state(optimizers: list[Optimizer]) -> list[dict] | None:
    """Whole state of every optimizer on rank 0, None on the others, which send theirs. Called by all ranks."""
    for optimizer in optimizers:
        if isinstance(optimizer, ZeroRedundancyOptimizer):
            optimizer.consolidate_state_dict(to=0)
    if dist.is_initialized() and dist.get_rank() != 0:
        return None
    return [optimizer.state_dict() for optimizer in optimizers]


def load_state(optimizers: list[Optimizer], states: list[dict]) -> None:
    """The reverse of `collect_state`, on every rank, for any number of ranks; each keeps its own share."""
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(state)


def _sharded(optimizer_class: type[Optimizer], groups: list[dict], **options) -> Optimizer:
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return optimizer_class(groups, **options)
    return ZeroRedundancyOptimizer(groups, optimizer_class=optimizer_class, **options)


def _groups(optimizers: Iterable[Optimizer]) -> Iterable[dict]:
    return (group for optimizer in optimizers for group in optimizer.param_groups)
