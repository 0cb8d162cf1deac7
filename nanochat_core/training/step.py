"""One optimizer step: this rank's share of the gradients, their sum over all ranks, the update. No waiting in between.

Everything that steers the computation (lengths, positions, which tokens are supervised) is known on the host and
sent ahead, so that a GPU is never waited for inside a step; its loss and gradient norm are read together at the end.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.tokens.plan import share_of_rank
from nanochat_core.model.batch import pack
from nanochat_core.model.gpt import GPT
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.optimizers import set_learning_rates


class Diverged(RuntimeError):
    """The loss is no longer a number; training on would only make it worse."""


@dataclass(frozen=True)
class StepResult:
    """Figures of one optimizer step, the same on every rank."""

    train_loss: float
    """Mean nats over the step's supervised tokens, before its update."""
    grad_norm: float
    multiplier: float
    """Factor on every learning rate."""


class TrainingStep:
    """Makes one step after the other. Gives each parameter a gradient of zeros, whose memory is kept for good."""

    def __init__(
        self,
        model: GPT,
        optimizers: Sequence[Optimizer],
        ranks: Ranks,
        device_batch_size: int,
        schedule: Callable[[int], float] = lambda step: 1.0,
    ):
        """schedule: the factor on every learning rate at a step, from 0."""
        self.model, self.optimizers, self.ranks = model, optimizers, ranks
        self.device_batch_size, self.schedule = device_batch_size, schedule
        self.parameters = list(model.parameters())
        for parameter in self.parameters:  # fresh memory costs more than zeroing
            parameter.grad = torch.zeros_like(parameter)

    def take(self, step: int, examples: Sequence[Example]) -> StepResult:
        """The `step`-th optimizer step (from 0), over `examples`, this rank computing its share.

        Raises Diverged when the loss or its gradient is no number; the weights are then of no use.
        """
        multiplier = self.schedule(step)
        set_learning_rates(self.optimizers, multiplier)
        train_loss, grad_norm = self(examples)
        if not (math.isfinite(train_loss) and math.isfinite(grad_norm)):
            raise Diverged(f"The training diverged at step {step + 1}: the loss is no longer a number.")
        return StepResult(train_loss, grad_norm, multiplier)

    def __call__(self, examples: Sequence[Example]) -> tuple[float, float]:
        """(mean nats over the supervised tokens of `examples`, norm of its gradient) before the update that it makes.

        Both are not finite when the training has diverged; the weights are then of no use.
        """
        nats = self.accumulate(examples)
        norm = torch.nn.utils.get_total_norm(self._gradients())
        self.update()
        self.ranks.add_up(nats)
        loss, norm = torch.stack([nats, norm]).tolist()
        return loss, norm

    def accumulate(self, examples: Sequence[Example]) -> torch.Tensor:
        """Put the gradient of the mean loss over all ranks into .grad; returns this rank's part of the loss."""
        supervised = sum(example.supervised for example in examples)
        nats = torch.zeros((), device=self.ranks.device)
        self.model.train()
        with self.model.casts_kept():
            for micro_batch in share_of_rank(examples, self.ranks.rank, self.ranks.world, self.device_batch_size):
                nats += self.model.add_gradients(pack(micro_batch).to(self.ranks.device), 1 / supervised)
        self.ranks.sum_gradients(self.parameters)
        return nats

    def update(self) -> None:
        """Let the optimizers use the gradients, and clear these."""
        for optimizer in self.optimizers:
            optimizer.step()
        for gradient in self._gradients():
            gradient.zero_()

    def _gradients(self) -> list[torch.Tensor]:
        """The gradients of all parameters; each has one from the beginning on."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]
