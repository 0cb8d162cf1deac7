"""What a memory mode is: it takes a rank's share of a step, and knows where weights and optimizer state lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.tokens.plan import micro_batches
from nanochat_core.model.batch import Batch, Reference, pack
from nanochat_core.model.gpt import GPT, Weigh
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.figures import Figures
from nanochat_core.training.modes.sums import AnyOrder, FixedOrder, Sums
from nanochat_core.training.optimizers import Rule
from nanochat_core.training.preference import trained_loss, weigh_pairs
from nanochat_core.training.units import Unit, owners_of, units_of


class Work:
    """One rank's share of a step: some of its micro-batches, which are the same for any number of ranks."""

    def __init__(
        self, examples: Sequence[Example], size: int, ranks: Ranks, reference: Reference | None, *, fixed_sums: bool
    ):
        """size: conversations in a micro-batch. reference: of rejected answers. fixed_sums: as of FinetuneConfig."""
        self._batches = micro_batches(examples, size)
        self.sums: Sums = (FixedOrder if fixed_sums else AnyOrder)(self._batches, ranks)
        self._supervised = sum(example.supervised for example in examples)
        self.scale = 1 / self._supervised
        """Of each token's nats in the loss of the step."""
        self.figures = Figures(self._batches, ranks.device, with_rejected=reference is not None)
        self._reference, self._device = reference, ranks.device
        self._weigh = weigh_pairs(examples) if reference is not None else None

    def batch(self, number: int) -> Batch:
        """A micro-batch on the device."""
        return pack(self._batches[number], self._reference).to(self._device)

    def weigh(self, batch: Batch) -> Weigh | None:
        """What makes the weights of its tokens, as of `GPT.head_gradients`."""
        return self._weigh if batch.pairs is not None else None

    def note(self, number: int, batch: Batch, loss: Tensor, nats: Tensor) -> None:
        """A micro-batch was computed, with what `GPT.add_gradients` gave."""
        self.figures.note(number, trained_loss(nats, batch.pairs) / self._supervised if batch.pairs else loss, nats)


@dataclass(frozen=True)
class Parts:
    """The trained parameters of a model, how each is trained, and which rank does it."""

    rules: dict[str, Rule]
    """By name, in the order of the model's parameters."""
    units: list[Unit]
    owners: dict[str, int]
    rank: int

    @staticmethod
    def of(model: GPT, rules: dict[str, Rule], ranks: Ranks) -> "Parts":
        """Those of `model`, for this rank."""
        units = units_of(model)
        return Parts(rules, units, owners_of(units, ranks.world), ranks.rank)

    def is_mine(self, name: str) -> bool:
        """Whether this rank steps the parameter."""
        return self.owners[name] == self.rank


class Mode(Protocol):
    """How a step is computed, and where what lasts lies between two of them."""

    name: str
    parts: Parts
    optimizers: list[Optimizer]
    """Those of this rank's parameters; a step sets their learning rates first."""

    def accumulate(self, work: Work) -> None:
        """Compute the gradients of the step, over all ranks; some modes also let them change the weights already."""

    def norms(self) -> list[Tensor]:
        """Of each parameter's gradient, in the order of the parameters; 0 for those of other ranks."""

    def update(self) -> None:
        """Let the gradients change what `accumulate` has not changed yet, and forget them."""

    has_all_weights: bool
    """Whether every rank has every weight in fp32, not only its own."""

    def rest(self, name: str) -> None:
        """A parameter's state is not used for a while: what lies in a file need not be in memory, too."""

    def shape(self, name: str) -> torch.Size:
        """Of a parameter."""

    def weight(self, name: str) -> Tensor:
        """A parameter of this rank as it is, in fp32."""

    def set_weight(self, name: str, weight: Tensor) -> None:
        """Change a parameter, on every rank."""

    def state(self, name: str) -> dict[str, Tensor]:
        """The optimizer state of a parameter of this rank."""

    def set_state(self, name: str, state: dict[str, Tensor]) -> None:
        """Change the optimizer state of a parameter of this rank."""


def norms_in_order(parts: Parts, found: dict[str, Tensor], device: torch.device) -> list[Tensor]:
    """The norms by name as `Mode.norms` has them."""
    nothing = torch.zeros((), device=device)
    return [found.get(name, nothing) for name in parts.rules]
