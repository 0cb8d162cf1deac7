"""The optimizers of nanochat's finetuning recipe: Muon for the blocks' matrices, AdamW for everything else.

With several processes each keeps the state of its own share of the parameters only (ZeRO stage 1, Rajbhandari et al.,
arXiv 1910.02054).
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import AdamW, Optimizer

from nanochat_core.config import FinetuneConfig
from nanochat_core.model.gpt import GPT
from nanochat_core.training.muon import Muon

MUON = {"momentum": 0.95, "weight_decay": 0.0}
ADAMW = {"betas": (0.8, 0.95), "eps": 1e-10}

State = dict[str, dict[str, Tensor]]
"""Each parameter's optimizer state, by the parameter's name."""

STATE_KEYS = {Muon: ("momentum_buffer",), AdamW: ("step", "exp_avg", "exp_avg_sq")}


def build_optimizers(model: GPT, config: FinetuneConfig) -> list[Optimizer]:
    """[Muon, AdamW] over all parameters of `model`, or [AdamW] over those of its adapter, before any schedule.

    AdamW's rates for the tables scale with (n_embd/768)^-0.5, as nanochat tuned them at 768 channels. The
    scalars and small gates of the later generations take the output head's rate. Every parameter group
    notes its `initial_lr`, from which `set_learning_rates` derives the present one.
    """
    fused = _can_fuse(model.device)
    if model.is_adapted:
        groups = [{"params": [parameter for _, parameter in _trained(model)], "lr": config.lora_lr}]
        return _noted([_sharded(AdamW, groups, fused=fused, weight_decay=config.weight_decay)])
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
    optimizers = [
        _sharded(Muon, [{"params": matrices, "lr": config.matrix_lr}], **MUON),
        _sharded(AdamW, groups, fused=fused, **ADAMW),
    ]
    return _noted(optimizers)


def _noted(optimizers: list[Optimizer]) -> list[Optimizer]:
    for group in _groups(optimizers):
        group["initial_lr"] = group["lr"]
    return optimizers


def _trained(model: GPT) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters that are trained, by name: all of them, or those of an adapter."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def learning_rate_multiplier(step: int, steps: int, init_lr_frac: float) -> float:
    """Factor on every learning rate at the `step`-th of `steps` (from 0): init_lr_frac, falling linearly to 0."""
    return init_lr_frac * (1.0 - step / steps)


def set_learning_rates(optimizers: Iterable[Optimizer], multiplier: float) -> None:
    """Set every group's rate to its initial one times `multiplier`."""
    for group in _groups(optimizers):
        group["lr"] = group["initial_lr"] * multiplier


def collect_state(model: GPT, optimizers: list[Optimizer]) -> State | None:
    """Whole optimizer state on rank 0, by the parameters' names, in host memory; None on the other ranks.

    Called by all ranks: each sends its share tensor by tensor. (ZeroRedundancyOptimizer's own way pickles a
    rank's whole share into one list of bytes, at a few megabytes per second.)
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    found: State = {}
    for (name, parameter), owner in zip(_trained(model), _owners(model, optimizers)):
        optimizer = _optimizer_of(parameter, optimizers)
        values = {}
        for key in STATE_KEYS[_class_of(optimizer)]:
            value = _local(optimizer).state[parameter][key] if rank == owner else None
            if owner != 0:
                value = _send_to_first(value, torch.empty_like(parameter) if key != "step" else None, rank, owner)
            values[key] = value
        if rank == 0:
            found[name] = {key: value.detach().cpu() for key, value in values.items() if value is not None}
    return found if rank == 0 else None


def load_state(model: GPT, optimizers: list[Optimizer], state: State) -> None:
    """The reverse of `collect_state`, on every rank, for any number of ranks; each keeps its own share."""
    for name, parameter in _trained(model):
        local = _local(_optimizer_of(parameter, optimizers))
        if any(parameter is mine for group in local.param_groups for mine in group["params"]):
            # The fused AdamW counts its steps on the parameter's device, the plain one on the host.
            steps_on = parameter.device if _can_fuse(parameter.device) else torch.device("cpu")
            local.state[parameter] = {
                key: value.to(parameter.device if value.ndim else steps_on, copy=True)
                for key, value in state[name].items()
            }


def _owners(model: GPT, optimizers: list[Optimizer]) -> list[int]:
    """For each trained parameter of the model the rank that holds its state."""
    mine = {id(p) for optimizer in optimizers for group in _local(optimizer).param_groups for p in group["params"]}
    parameters = [parameter for _, parameter in _trained(model)]
    if not dist.is_initialized():
        return [0] * len(parameters)
    owners = torch.tensor([dist.get_rank() if id(p) in mine else 0 for p in parameters], device=model.device)
    dist.all_reduce(owners)  # exactly one rank names itself
    return owners.tolist()


def _send_to_first(value: Tensor | None, like: Tensor | None, rank: int, owner: int) -> Tensor | None:
    """Hand `value` from `owner` to rank 0, where it is returned; `like` has its shape, None a single number."""
    if rank == owner:
        assert value is not None
        dist.send(value.reshape(-1).to(_transport_device()), 0)
    elif rank == 0:
        received = like if like is not None else torch.empty(())
        received = received.to(_transport_device()).contiguous()
        flat = received.reshape(-1)
        dist.recv(flat, owner)
        return flat.view(received.shape)
    return None


def _transport_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _optimizer_of(parameter: torch.nn.Parameter, optimizers: list[Optimizer]) -> Optimizer:
    return next(o for o in optimizers if any(parameter is p for group in o.param_groups for p in group["params"]))


def _local(optimizer: Optimizer) -> Optimizer:
    """The optimizer over this rank's share."""
    return optimizer.optim if isinstance(optimizer, ZeroRedundancyOptimizer) else optimizer


def _class_of(optimizer: Optimizer) -> type[Optimizer]:
    return type(_local(optimizer))


def _can_fuse(device: torch.device) -> bool:
    return device.type in ("cpu", "cuda")  # on a Zen 4 8 times the speed of the loop over tensors


def _sharded(optimizer_class: type[Optimizer], groups: list[dict[str, Any]], **options: Any) -> Optimizer:
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return optimizer_class(groups, **options)
    return ZeroRedundancyOptimizer(groups, optimizer_class=optimizer_class, **options)


def _groups(optimizers: Iterable[Optimizer]) -> Iterable[dict[str, Any]]:
    return (group for optimizer in optimizers for group in optimizer.param_groups)
