"""A model's figures on conversations, one by one: loss, bits per byte, token accuracy. What pairs are made of."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.tokens.plan import micro_batches, shares
from nanochat_core.model.batch import pack
from nanochat_core.model.gpt import GPT
from nanochat_core.model.predictions import predictions
from nanochat_core.tokenizer.rendering import Example

_COLUMNS = ("nats", "tokens", "right", "nats_of_bytes", "bytes")


@dataclass(frozen=True)
class Figures:
    """Sums over each of N conversations, in their order, float64 (N,); the same on every rank."""

    nats: np.ndarray
    tokens: np.ndarray
    """Supervised ones."""
    right: np.ndarray
    """Of these, how many were the likeliest token."""
    nats_of_bytes: np.ndarray
    """Nats of the tokens that stand for bytes: special ones do not."""
    bytes: np.ndarray

    @property
    def loss(self) -> float:
        """Mean nats over all supervised tokens."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def token_accuracy(self) -> float:
        """0 to 1."""
        return float(self.right.sum() / self.tokens.sum())

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers; NaN where the answers have no bytes."""
        size = self.bytes.sum()
        return float(self.nats_of_bytes.sum() / (math.log(2) * size)) if size else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Lists by name, for JSON."""
        return {name: getattr(self, name).tolist() for name in _COLUMNS}


def figures(
    model: GPT,
    examples: Sequence[Example],
    token_bytes: torch.Tensor,
    ranks: Ranks,
    batch_size: int,
    beat: Callable[[int], None] = lambda done: None,
) -> Figures:
    """The figures of `model` on the examples, each rank computing its share.

    token_bytes (vocab_size,): each token's bytes, 0 for special ones. beat: told, after each batch of this rank, how
    many conversations were in it; what it raises ends the computation.
    """
    sums = np.zeros((len(examples), len(_COLUMNS)))
    places = {example.index: place for place, example in enumerate(examples)}
    batches = micro_batches(examples, batch_size)
    for number in shares(batches, ranks.world)[ranks.rank]:
        rows = [places[example.index] for example in batches[number]]
        sums[rows] = _of_batch(model, batches[number], token_bytes, ranks)
        beat(len(batches[number]))
    everything = np.array(ranks.sum(sums.ravel().tolist())).reshape(sums.shape)
    return Figures(*everything.T)


def _of_batch(model: GPT, examples: Sequence[Example], token_bytes: torch.Tensor, ranks: Ranks) -> np.ndarray:
    """The sums of these conversations, (n, 5)."""
    batch = pack(examples).to(ranks.device)
    with torch.no_grad():
        hidden = model.hidden(batch.ids, batch.layout, batch.wanted)[0]
        found = predictions(hidden, model.head, batch.labels)
    sizes = token_bytes[batch.labels.cpu()].double()
    ones, has_bytes = torch.ones_like(found.nats), (sizes > 0).double()
    values = torch.stack([found.nats, ones, found.right.double(), found.nats * has_bytes, sizes], 1)  # (K, 5)
    counts = [example.supervised for example in examples]
    return np.stack([part.sum(0).numpy() for part in values.split(counts)])
