"""One optimizer step: this rank's share of the gradients, their sum over all ranks, the update. No waiting in between.

Everything that steers the computation (lengths, positions, which tokens are supervised) is known on the host and
sent ahead, so that a GPU is never waited for inside a step; its loss and gradient norm are read together at the end.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nanochat_core.compute.ranks import Ranks
from nanochat_core.model.batch import Reference
from nanochat_core.model.gpt import GPT
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.figures import ExampleLoss, Figures
from nanochat_core.training.modes.mode import Mode, Work
from nanochat_core.training.optimizers import set_learning_rates
from nanochat_core.training.preference import PreferenceLoss, preference_loss


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
    """Makes one step after the other, in a memory mode."""

    def __init__(  # noqa: PLR0913  all but the first four are options
        self,
        model: GPT,
        mode: Mode,
        ranks: Ranks,
        device_batch_size: int,
        schedule: Callable[[int], float] = lambda step: 1.0,
        reference: Reference | None = None,
        *,
        fixed_sums: bool = False,
    ):
        """schedule: the factor on every learning rate at a step, from 0. fixed_sums: as of FinetuneConfig.

        reference: of the rejected answers, from which is then learned, too.
        """
        self.model, self.mode, self.ranks = model, mode, ranks
        self.device_batch_size, self.schedule, self.reference = device_batch_size, schedule, reference
        self.fixed_sums = fixed_sums

    def take(self, step: int, examples: Sequence[Example]) -> StepResult:
        """The `step`-th optimizer step (from 0), over `examples`, this rank computing its share.

        Raises Diverged when the loss or its gradient is no number; the weights are then of no use.
        """
        multiplier = self.schedule(step)
        set_learning_rates(self.mode.optimizers, multiplier)
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
        norms = self.mode.norms()
        self.update()
        return figures.read(self.ranks, norms)

    def accumulate(self, examples: Sequence[Example]) -> Figures:
        """Compute the gradient of the mean loss over all ranks; the figures are this rank's alone."""
        work = Work(examples, self.device_batch_size, self.ranks, self.reference, fixed_sums=self.fixed_sums)
        self.model.train()
        self.mode.accumulate(work)
        return work.figures

    def update(self) -> None:
        """Let the gradients change the weights."""
        self.mode.update()
