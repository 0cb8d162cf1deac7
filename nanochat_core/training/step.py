"""One optimizer step: this rank's share of the gradients, their sum over all ranks, the update. No waiting in between.

Everything that steers the computation (lengths, positions, which tokens are supervised) is known on the host and
sent ahead, so that a GPU is never waited for inside a step; its loss and gradient norm are read together at the end.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch.optim import Optimizer

from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.tokens.plan import micro_batches, shares
from nanochat_core.model.batch import Reference, pack
from nanochat_core.model.gpt import GPT
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.figures import ExampleLoss, Figures
from nanochat_core.training.optimizers import set_learning_rates
from nanochat_core.training.preference import PreferenceLoss, preference_loss, trained_loss, weigh_pairs


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
    examples: list[ExampleLoss] = field(default_factory=list)
    """Every conversation of the step, those of other ranks, too."""
    preference: PreferenceLoss | None = None
    """How the step's pairs of a chosen and a rejected answer stood; None where there are none."""


class TrainingStep:
    """Makes one step after the other. Each trained parameter gets a gradient of zeros, whose memory is kept."""

    def __init__(
        self,
        model: GPT,
        optimizers: Sequence[Optimizer],
        ranks: Ranks,
        device_batch_size: int,
        schedule: Callable[[int], float] = lambda step: 1.0,
        reference: Reference | None = None,
    ):
        """schedule: the factor on every learning rate at a step, from 0.

        reference: of the rejected answers, from which is then learned, too.
        """
        self.model, self.optimizers, self.ranks = model, optimizers, ranks
        self.device_batch_size, self.schedule, self.reference = device_batch_size, schedule, reference
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in self.parameters:  # fresh memory costs more than zeroing
            parameter.grad = torch.zeros_like(parameter)

    def take(self, step: int, examples: Sequence[Example]) -> StepResult:
        """The `step`-th optimizer step (from 0), over `examples`, this rank computing its share.

        Raises Diverged when the loss or its gradient is no number; the weights are then of no use.
        """
        multiplier = self.schedule(step)
        set_learning_rates(self.optimizers, multiplier)
        train_loss, grad_norm, losses = self._compute(examples)
        if not (math.isfinite(train_loss) and math.isfinite(grad_norm)):
            raise Diverged(f"The training diverged at step {step + 1}: the loss is no longer a number.")
        return StepResult(train_loss, grad_norm, multiplier, losses, preference_loss(losses, self.reference))

    def __call__(self, examples: Sequence[Example]) -> tuple[float, float]:
        """(mean nats over the supervised tokens of `examples`, norm of its gradient) before the update that it makes.

        Both are not finite when the training has diverged; the weights are then of no use.
        """
        return self._compute(examples)[:2]

    def _compute(self, examples: Sequence[Example]) -> tuple[float, float, list[ExampleLoss]]:
        figures = self.accumulate(examples)
        norms = [torch.linalg.vector_norm(gradient) for gradient in self._gradients()]
        self.update()
        return figures.read(self.ranks, norms)

    def accumulate(self, examples: Sequence[Example]) -> Figures:
        """Put the gradient of the mean loss over all ranks into .grad; the figures are this rank's alone."""
        supervised = sum(example.supervised for example in examples)
        batches, device = micro_batches(examples, self.device_batch_size), self.ranks.device
        figures = Figures(batches, device, with_rejected=self.reference is not None)
        weigh = weigh_pairs(examples) if self.reference is not None else None
        self.model.train()
        with self.model.casts_kept():
            for number in shares(batches, self.ranks.world)[self.ranks.rank]:
                batch = pack(batches[number], self.reference).to(device)
                with_pairs = batch.pairs is not None
                loss, nats = self.model.add_gradients(batch, 1 / supervised, weigh if with_pairs else None)
                figures.note(number, trained_loss(nats, batch.pairs) / supervised if batch.pairs else loss, nats)
        self.ranks.sum_gradients(self.parameters)
        return figures

    def update(self) -> None:
        """Let the optimizers use the gradients, and clear these."""
        for optimizer in self.optimizers:
            optimizer.step()
        for gradient in self._gradients():
            gradient.zero_()

    def _gradients(self) -> list[torch.Tensor]:
        """The gradients of all parameters; each has one from the beginning on."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]
