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
    margins: tuple[float, ...] = ()
    """For each rejected answer from which is learned: how many nats more it has than the chosen one."""


class Figures:
    """The figures of one step, in one vector on the device."""

    def __init__(self, batches: Sequence[Sequence[Example]], device: torch.device, *, with_rejected: bool = False):
        """batches: all micro-batches of the step, those of other ranks, too. with_rejected: as `pack` laid them."""
        self._batches, self._with_rejected = batches, with_rejected
        sizes = [sum(sum(self._labels(example)) for example in batch) for batch in batches]
        self._all = torch.zeros(len(batches) + sum(sizes), device=device)
        self._losses = self._all[: len(batches)]
        self._nats = self._all[len(batches) :].split(sizes)

    def note(self, number: int, loss: Tensor, nats: Tensor) -> None:
        """Micro-batch `number` has this share of the step's loss, and its supervised tokens these nats."""
        self._losses[number].copy_(loss)
        self._nats[number].copy_(nats)

    def read(self, ranks: Ranks, norms: Sequence[Tensor]) -> tuple[float, float, list[ExampleLoss]]:
        """(loss, norm of the gradient, every conversation's loss), on every rank. Waits for the device, once.

        norms: of each parameter's gradient, in the order of the parameters; 0 for those of other ranks.
        """
        found = torch.cat([torch.stack(list(norms)), self._all])
        ranks.add_up(found)  # every place but a rank's own holds 0, so that nothing is rounded
        values = torch.tensor(found.tolist())
        norm = float(torch.linalg.vector_norm(values[: len(norms)]).numpy())
        numbers = values[len(norms) :].numpy()
        with np.errstate(all="ignore"):  # a training that diverges is told of by its caller
            loss = float(np.add.accumulate(numbers[: len(self._batches)])[-1])
        return loss, norm, self._examples(numbers[len(self._batches) :])

    def _labels(self, example: Example) -> list[int]:
        """How many labels the example has, and each of its rejected answers."""
        rejected = example.rejected if self._with_rejected else ()
        return [example.supervised, *(int(one.mask[1:].sum()) for one in rejected)]

    def _examples(self, nats: np.ndarray) -> list[ExampleLoss]:
        found, start = [], 0
        for example in (example for batch in self._batches for example in batch):
            counts = self._labels(example)
            own, *others = np.split(nats[start : start + sum(counts)].astype(np.float64), np.cumsum(counts)[:-1])
            margins = tuple(
                float(other.sum() - own[_labels_in(example, *one.chosen)].sum())
                for one, other in zip(example.rejected, others)
            )
            found.append(ExampleLoss(example.index, example.is_replay, float(own.sum()), counts[0], margins))
            start += sum(counts)
        return found


def _labels_in(example: Example, start: int, end: int) -> slice:
    """Which of the example's labels are tokens from `start` to `end`."""
    return slice(int(example.mask[1:start].sum()), int(example.mask[1:end].sum()))
