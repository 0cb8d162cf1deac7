"""What a step finds out on the device: losses and the nats of every supervised token, read by the host at its end.

Each micro-batch has its place whichever process computes it, so that what is read, and the order in which it is added
up, is the same for any number of processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nanochat_core.compute.ranks import Ranks
from nanochat_core.tokenizer.rendering import Example


@dataclass(frozen=True)
class ExampleLoss:
    """How well the model knew one conversation of a step, before the step's update."""

    index: int
    """Which conversation of its file it is, from 0."""
    is_replay: bool
    """Whether that file is the replayed one."""
    nats: float
    """Summed over its supervised tokens."""
    tokens: int
    """Supervised tokens."""


class Figures:
    """The figures of one step, in one vector on the device."""

    def __init__(self, batches: Sequence[Sequence[Example]], device: torch.device):
        """batches: all micro-batches of the step, those of other ranks, too."""
        self._batches = batches
        sizes = [sum(example.supervised for example in batch) for batch in batches]
        self._all = torch.zeros(len(batches) + sum(sizes), device=device)
        self._losses = self._all[: len(batches)]
        self._nats = self._all[len(batches) :].split(sizes)

    def note(self, number: int, loss: Tensor, nats: Tensor) -> None:
        """Micro-batch `number` has this share of the step's loss, and its supervised tokens these nats."""
        self._losses[number].copy_(loss)
        self._nats[number].copy_(nats)

    def read(self, ranks: Ranks, norms: Sequence[Tensor]) -> tuple[float, float, list[ExampleLoss]]:
        """(loss, norm of the gradient, every conversation's loss), on every rank. Waits for the device, once.

        norms: of each parameter's gradient, in the order of the parameters.
        """
        ranks.add_up(self._all)  # every place but a rank's own holds 0, so that nothing is rounded
        values = torch.tensor(torch.cat([torch.stack(list(norms)), self._all]).tolist())
        norm = float(torch.linalg.vector_norm(values[: len(norms)]).numpy())
        numbers = values[len(norms) :].numpy()
        with np.errstate(all="ignore"):  # a training that diverges is told of by its caller
            loss = float(np.add.accumulate(numbers[: len(self._batches)])[-1])
        return loss, norm, self._examples(numbers[len(self._batches) :])

    def _examples(self, nats: np.ndarray) -> list[ExampleLoss]:
        found, start = [], 0
        for example in (example for batch in self._batches for example in batch):
            tokens = example.supervised
            total = float(nats[start : start + tokens].sum(dtype=np.float64))
            found.append(ExampleLoss(example.index, example.is_replay, total, tokens))
            start += tokens
        return found
