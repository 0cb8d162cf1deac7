"""The optimizers of nanochat's finetuning recipe: Muon for the blocks' matrices, AdamW for everything else.

With several processes each keeps the state of its own share of the parameters only (ZeRO stage 1, Rajbhandari et al.,
arXiv 1910.02054), of whole blocks (units.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from nanochat_core.config import FinetuneConfig
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import is_table
from nanochat_core.training.muon import Muon
from nanochat_core.training.symmetric import Buffers

State = dict[str, dict[str, Tensor]]
"""Each parameter's optimizer state, by the parameter's name."""

STATE_KEYS: Mapping[type[Optimizer], tuple[str, ...]] = {
    Muon: ("momentum_buffer",),
    AdamW: ("step", "exp_avg", "exp_avg_sq"),
}
_MUON = (("momentum", 0.95),)
_ADAMW = (("betas", (0.8, 0.95)), ("eps", 1e-10))


@dataclass(frozen=True)
class Rule:
    """How a parameter is trained."""

    optimizer: type[Optimizer]
    lr: float
    """Before any schedule."""
    weight_decay: float = 0.0
    options: tuple[tuple[str, Any], ...] = ()
    """The optimizer's own, by name."""


def recipe(model: GPT, config: FinetuneConfig) -> dict[str, Rule]:
    """The rule of every trained parameter of `model`, all or those of an adapter, by name.

    AdamW's rates for the tables scale with (n_embd/768)^-0.5, as nanochat tuned them at 768 channels. The
    scalars and small gates of the later generations take the output head's rate.
    """
    if model.is_adapted:
        rule = Rule(AdamW, config.lora_lr, config.weight_decay, _ADAMW)
        return {name: rule for name, parameter in model.named_parameters() if parameter.requires_grad}
    scale = (model.config.n_embd / 768) ** -0.5
    head = Rule(AdamW, config.unembedding_lr * scale, config.weight_decay, _ADAMW)
    table = Rule(AdamW, config.embedding_lr * scale, config.weight_decay, _ADAMW)
    matrix, scalar = Rule(Muon, config.matrix_lr, 0.0, _MUON), Rule(AdamW, config.unembedding_lr, 0.0, _ADAMW)

    def rule_of(name: str, parameter: nn.Parameter) -> Rule:
        if is_table(name):
            return table
        if name == "lm_head.weight":
            return head
        return matrix if name.startswith("transformer.h.") and parameter.ndim == 2 else scalar

    return {name: rule_of(name, parameter) for name, parameter in model.named_parameters()}


def build_optimizers(
    model: GPT, config: FinetuneConfig, names: Iterable[str] | None = None, kept: Buffers | None = None
) -> list[Optimizer]:
    """The optimizers of the parameters called `names`, without it of all, at the rates before any schedule.

    Every parameter group notes its `initial_lr`, from which `set_learning_rates` derives the present one. kept: as
    Muon has it.
    """
    found = recipe(model, config)
    parameters = dict(model.named_parameters())
    wanted = found if names is None else names
    return optimizers_for([(found[name], parameters[name], _part(name)) for name in wanted], kept)


def _part(name: str) -> str:
    """Muon computes matrices of one shape together: those of a block, in every memory mode, so that the bits agree."""
    return name.split(".")[2] if name.startswith("transformer.h.") else ""


def optimizers_for(members: Iterable[tuple[Rule, nn.Parameter, str]], kept: Buffers | None = None) -> list[Optimizer]:
    """Optimizers of these (rule, parameter, part): a group for each rule and part, and none for no parameters."""
    groups: dict[type[Optimizer], dict[tuple[Rule, str], list[nn.Parameter]]] = {Muon: {}, AdamW: {}}
    for rule, parameter, part in members:
        groups[rule.optimizer].setdefault((rule, part), []).append(parameter)
    found: list[Optimizer] = []
    for kind, by_rule in groups.items():
        if not by_rule:
            continue
        device = next(iter(by_rule.values()))[0].device
        made = [_group(rule, params) for (rule, _), params in by_rule.items()]
        found.append(Muon(made, kept=kept) if kind is Muon else AdamW(made, fused=can_fuse(device)))
    return found


def _group(rule: Rule, parameters: list[nn.Parameter]) -> dict[str, Any]:
    rates = {"lr": rule.lr, "initial_lr": rule.lr, "weight_decay": rule.weight_decay}
    return {"params": parameters, **rates, **dict(rule.options)}


def learning_rate_multiplier(step: int, steps: int, init_lr_frac: float) -> float:
    """Factor on every learning rate at the `step`-th of `steps` (from 0): init_lr_frac, falling linearly to 0."""
    return init_lr_frac * (1.0 - step / steps)


def set_learning_rates(optimizers: Iterable[Optimizer], multiplier: float) -> None:
    """Set every group's rate to its initial one times `multiplier`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * multiplier


def can_fuse(device: torch.device) -> bool:
    """Whether AdamW has a fused kernel there: on a Zen 4 it is 8 times the speed of the loop over tensors."""
    return device.type in ("cpu", "cuda")


def steps_device(device: torch.device) -> torch.device:
    """Where AdamW counts its steps: the fused one on the parameters' device, the plain one on the host."""
    return device if can_fuse(device) else torch.device("cpu")
