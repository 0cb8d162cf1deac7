"""One optimizer step: this rank's share of the gradients, their sum over all ranks, the update. No waiting in between.

Everything that steers the computation (lengths, positions, which tokens are supervised) is known on the host and
sent ahead, so that a GPU is never waited for inside a step; its loss and gradient norm are read together at the end.
"""

from collections.abc import Sequence

import torch
from torch.optim import Optimizer

from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.tokens.plan import share_of_rank
from nanochat_core.model.batch import pack
from nanochat_core.model.gpt import GPT
from nanochat_core.tokenizer.rendering import Example


class TrainingStep:
    """Makes one step after the other. Gives each parameter a gradient of zeros, whose memory is kept for good."""

    def __init__(self, model: GPT, optimizers: Sequence[Optimizer], ranks: Ranks, device_batch_size: int):
        self.model, self.optimizers, self.ranks = model, optimizers, ranks
        self.device_batch_size = device_batch_size
        self.parameters = list(model.parameters())
        for parameter in self.parameters:  # fresh memory costs more than zeroing
            parameter.grad = torch.zeros_like(parameter)

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
