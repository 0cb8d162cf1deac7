"""The validation loss: nats per trained token, and bits per byte, over the same conversations every time.

A module of its own, because the training measures it as well, and needs nothing else of an evaluation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.tokens.plan import micro_batches, shares
from nanochat_core.model.batch import pack
from nanochat_core.model.gpt import GPT
from nanochat_core.tokenizer.rendering import Example


@dataclass(frozen=True)
class Validation:
    """Result over the whole set of examples, the same on every rank."""

    loss: float
    """Mean nats over supervised tokens."""
    bits_per_byte: float
    """Sum of nats over tokens that have bytes, / (ln 2 * their bytes): comparable between tokenizers."""


@torch.no_grad()
def validate(
    model: GPT, examples: Sequence[Example], token_bytes: torch.Tensor, ranks: Ranks, batch_size: int
) -> Validation:
    """The validation of `model`. `token_bytes` (vocab_size,) holds each token's bytes, 0 for special tokens."""
    batches = micro_batches(examples, batch_size)
    totals = torch.zeros(len(batches), 4, dtype=torch.float64)  # nats, tokens, nats of tokens with bytes, bytes
    for number in shares(batches, ranks.world)[ranks.rank]:
        batch = pack(batches[number]).to(ranks.device)
        nats, targets = (t.cpu() for t in model.token_nats(batch.ids, batch.targets, batch.lengths))
        nats, sizes = nats.double(), token_bytes[targets]
        totals[number] = torch.stack([nats.sum(), torch.tensor(len(nats)), nats[sizes > 0].sum(), sizes.sum()])
    # Each number was found by one rank alone, and they are added up in one order: the result depends on no rank.
    everywhere = torch.tensor(ranks.sum(totals.flatten().tolist()), dtype=torch.float64).view(totals.shape)
    total, tokens, nats_of_bytes, size = (sum(column) for column in everywhere.T.tolist())
    return Validation(total / tokens, nats_of_bytes / (math.log(2) * size) if size else math.nan)
