"""Conversations laid end to end, as tensors: what one forward pass computes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nanochat_core.model.attention import Layout
from nanochat_core.tokenizer.rendering import Example


@dataclass(frozen=True)
class Batch:
    """Conversations laid end to end, and all that steers their computation, worked out on the host."""

    ids: Tensor
    """LongTensor (1, T)."""
    targets: Tensor
    """LongTensor (1, T); -1 where nothing is learned."""
    lengths: list[int]
    wanted: Tensor
    """Which of the T tokens have a target that is learned, LongTensor (K,)."""
    labels: Tensor
    """Their targets, LongTensor (K,)."""
    layout: Layout
    weights: Tensor | None = None
    """How much each of the K tokens counts in the loss, fp32 (K,); None: all 1."""

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`. To a GPU it is sent from pinned memory, and nobody waits for it."""
        if device.type == "cpu":
            return self
        layout = self.layout.pinned() if device.type == "cuda" else self.layout

        def sent(tensor: Tensor) -> Tensor:
            return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

        ids, targets, wanted, labels = (sent(tensor) for tensor in (self.ids, self.targets, self.wanted, self.labels))
        weights = None if self.weights is None else sent(self.weights)
        return Batch(ids, targets, self.lengths, wanted, labels, layout.to(device), weights)


def pack(examples: Sequence[Example]) -> Batch:
    """Lay the examples end to end; target t of a conversation is its token t+1 where that is supervised."""
    ids = np.concatenate([example.ids[:-1] for example in examples]).astype(np.int64)
    targets = np.concatenate([np.where(example.mask[1:], example.ids[1:], -1) for example in examples])
    targets = targets.astype(np.int64)
    wanted = np.flatnonzero(targets != -1)
    lengths = [example.inputs for example in examples]
    return Batch(
        torch.from_numpy(ids)[None],
        torch.from_numpy(targets)[None],
        lengths,
        torch.from_numpy(wanted),
        torch.from_numpy(targets[wanted]),
        Layout.of((1, len(ids)), lengths),
    )
