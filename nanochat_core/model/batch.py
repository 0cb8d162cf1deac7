"""Conversations laid end to end, as tensors: what one forward pass computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nanochat_core.model.attention import Layout
from nanochat_core.tokenizer.rendering import Example

Reference = Mapping[int, Sequence[float]]
"""By Example.index, for each of its rejected answers: what `Pairs.reference` holds."""


@dataclass(frozen=True)
class Pairs:
    """Which of a batch's labels belong to a chosen and which to its rejected answer; pairs are counted from 0."""

    pair: Tensor
    """LongTensor (K,), 0 also where there is none."""
    sign: Tensor
    """fp32 (K,): 1 in a chosen answer, -1 in a rejected one, 0 elsewhere."""
    reference: Tensor
    """fp32 (P,), for each pair: how many nats more the rejected answer had than the chosen one before the training."""


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
    pairs: Pairs | None = None
    """Where some of the answers are rejected ones."""

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`. To a GPU it is sent from pinned memory, and nobody waits for it."""
        if device.type == "cpu":
            return self
        layout = self.layout.pinned() if device.type == "cuda" else self.layout

        def sent(tensor: Tensor) -> Tensor:
            return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

        ids, targets, wanted, labels = (sent(tensor) for tensor in (self.ids, self.targets, self.wanted, self.labels))
        weights = None if self.weights is None else sent(self.weights)
        found = self.pairs
        pairs = None if found is None else Pairs(sent(found.pair), sent(found.sign), sent(found.reference))
        return Batch(ids, targets, self.lengths, wanted, labels, layout.to(device), weights, pairs)


def pack(examples: Sequence[Example], reference: Reference | None = None) -> Batch:
    """Lay the examples end to end; target t of a conversation is its token t+1 where that is supervised.

    With a `reference` each example's rejected answers follow it, each a sequence of its own, whose tokens are targets.
    """
    sequences = [(one.ids, one.mask) for one in examples]
    pairs = None
    if reference is not None and any(one.rejected for one in examples):
        sequences, pairs = _with_rejected(examples)
    ids = np.concatenate([ids[:-1] for ids, _ in sequences]).astype(np.int64)
    targets = np.concatenate([np.where(mask[1:], ids[1:], -1) for ids, mask in sequences])
    targets = targets.astype(np.int64)
    wanted = np.flatnonzero(targets != -1)
    lengths = [len(ids) - 1 for ids, _ in sequences]
    return Batch(
        torch.from_numpy(ids)[None],
        torch.from_numpy(targets)[None],
        lengths,
        torch.from_numpy(wanted),
        torch.from_numpy(targets[wanted]),
        Layout.of((1, len(ids)), lengths),
        pairs=None if pairs is None else _pairs(pairs[0][wanted], pairs[1][wanted], examples, reference or {}),
    )


def _with_rejected(
    examples: Sequence[Example],
) -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[np.ndarray, np.ndarray]]:
    """((ids, mask) of every sequence, (pair, sign) at each input position of all)."""
    sequences, tables, count = [], [], 0
    for example in examples:
        inputs = len(example.ids) - 1
        pair, sign = np.zeros(inputs, np.int64), np.zeros(inputs, np.float32)
        sequences.append((example.ids, example.mask))
        tables.append((pair, sign))
        for one in example.rejected:
            start, end = one.chosen
            pair[start - 1 : end - 1], sign[start - 1 : end - 1] = count, 1  # the input before a token has it as target
            inputs = len(one.ids) - 1
            sequences.append((one.ids, one.mask))
            tables.append((np.full(inputs, count, np.int64), np.full(inputs, -1, np.float32)))
            count += 1
    return sequences, (np.concatenate([pair for pair, _ in tables]), np.concatenate([sign for _, sign in tables]))


def _pairs(pair: np.ndarray, sign: np.ndarray, examples: Sequence[Example], reference: Reference) -> Pairs:
    values = [value for one in examples if one.rejected for value in reference[one.index]]
    return Pairs(torch.from_numpy(pair), torch.from_numpy(sign), torch.tensor(values, dtype=torch.float32))
