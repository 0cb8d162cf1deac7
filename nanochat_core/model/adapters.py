"""LoRA: small matrices A and B beside a frozen one, whose product is added to it (Hu et al., arXiv 2106.09685).

They hang at the modules of a model as a submodule and a hook, so that any kind of matrix takes them: trained ones, and
for inference those in eight bits.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat_core.model.gpt import GPT

NAME = "adapter"
"""Of the submodule at each adapted matrix."""


@dataclass(frozen=True)
class Adapter:
    """What LoRA learned for one model."""

    rank: int
    alpha: float
    matrices: dict[str, tuple[Tensor, Tensor]]
    """By the adapted module's name: A fp32 (rank, inputs) and B fp32 (outputs, rank)."""

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / self.rank


class LowRank(nn.Module):
    """scale * x A' B'. Its matrices are fp32 and cast to the type of x where they are used."""

    def __init__(self, a: Tensor, b: Tensor, scale: float):
        super().__init__()
        self.A, self.B, self.scale = nn.Parameter(a), nn.Parameter(b), scale

    def forward(self, x: Tensor) -> Tensor:
        """x (..., inputs) -> (..., outputs)."""
        return F.linear(F.linear(x, self.A.to(x.dtype)), self.B.to(x.dtype)) * self.scale


def adapted_modules(model: GPT, targets: Sequence[str]) -> list[str]:
    """Names of the matrices of all blocks that `targets` mean, such as attn.c_q, in the model's order."""
    return [
        name for name, _ in model.named_modules() if name.startswith("transformer.h.") and name.endswith(tuple(targets))
    ]


def new_adapter(model: GPT, targets: Sequence[str], rank: int, alpha: float, seed: int) -> Adapter:
    """An adapter that changes nothing yet: A is random, as peft makes it, and B zero. The same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    matrices = {}
    for name in adapted_modules(model, targets):
        outputs, inputs = model.get_parameter(f"{name}.weight").shape
        a = torch.empty(rank, inputs).uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
        matrices[name] = a, torch.zeros(outputs, rank)
    return Adapter(rank, alpha, matrices)


def attach(model: GPT, adapter: Adapter) -> GPT:
    """Hang `adapter` at the matrices of `model`, in place, and freeze all else. Returns the model."""
    assert not model.is_adapted, "one adapter a model: an earlier one is merged into its weights"
    model.requires_grad_(requires_grad=False)
    for name, (a, b) in adapter.matrices.items():
        module = model.get_submodule(name)
        module.add_module(NAME, LowRank(a.to(model.device), b.to(model.device), adapter.scale))
        module.register_forward_hook(_add)
    model.is_adapted, model.decoder = True, None
    return model


def with_adapter(base: GPT, adapter: Adapter) -> GPT:
    """A second model with the adapter that shares every tensor of `base`, which stays as it is. For inference."""
    return attach(sharing_weights(base), adapter).eval().requires_grad_(requires_grad=False)


def sharing_weights(model: GPT) -> GPT:
    """A second model of the very same tensors, with hooks and a decode step of its own."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def adapter_of(model: GPT) -> Adapter | None:
    """The adapter that hangs at the model, its matrices in fp32 in host memory; None where there is none."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, LowRank)}
    if not found:
        return None
    one = next(iter(found.values()))
    matrices = {
        name.removesuffix(f".{NAME}"): (module.A.detach().float().cpu(), module.B.detach().float().cpu())
        for name, module in found.items()
    }
    return Adapter(len(one.A), one.scale * len(one.A), matrices)


def _add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Any:
    low_rank: Any = module.get_submodule(NAME)
    return output + low_rank(inputs[0])
