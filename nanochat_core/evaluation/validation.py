"""The validation: nats per trained token, bits per byte, distance from the base, over the same conversations each time.

A module of its own, because the training measures it as well, and needs nothing else of an evaluation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.tokens.plan import micro_batches, shares
from nanochat_core.evaluation.gauge import Gauge
from nanochat_core.model.batch import pack
from nanochat_core.model.gpt import GPT
from nanochat_core.model.loss import token_nats
from nanochat_core.tokenizer.rendering import Example


@dataclass(frozen=True)
class Validation:
    """Result over the whole set of examples, the same on every rank."""

    loss: float
    """Mean nats over supervised tokens."""
    bits_per_byte: float
    """Sum of nats over tokens that have bytes, / (ln 2 * their bytes): comparable between tokenizers."""
    kl_from_base: float | None = None
    """Mean nats of KL(base || model) over the supervised tokens that are gauged; None without a gauge."""


@torch.no_grad()
def validate(
    model: GPT,
    examples: Sequence[Example],
    token_bytes: torch.Tensor,
    ranks: Ranks,
    batch_size: int,
    gauge: Gauge | None = None,
) -> Validation:
    """The validation of `model`. `token_bytes` (vocab_size,) holds each token's bytes, 0 for special tokens.

    gauge: of the base, on the same examples and batch size.
    """
    batches = micro_batches(examples, batch_size)
    gauge = gauge and gauge.on(ranks.device)
    head = model.head
    # nats, tokens, nats of tokens with bytes, bytes, nats from the base, tokens that these are of
    totals = torch.zeros(len(batches), 6, dtype=torch.float64)
    for number in shares(batches, ranks.world)[ranks.rank]:
        batch = pack(batches[number]).to(ranks.device)
        hidden = model.hidden(batch.ids, batch.layout, batch.wanted)[0]
        nats, sizes = token_nats(hidden, head, batch.labels).cpu().double(), token_bytes[batch.labels.cpu()]
        totals[number, :4] = torch.stack([nats.sum(), torch.tensor(len(nats)), nats[sizes > 0].sum(), sizes.sum()])
        if gauge is not None and (apart := gauge.of_batch(number, hidden, head)) is not None:
            totals[number, 4:] = torch.stack([apart.sum(), torch.tensor(len(apart))])
    # Each number was found by one rank alone, and they are added up in one order: the result depends on no rank.
    everywhere = torch.tensor(ranks.sum(totals.flatten().tolist()), dtype=torch.float64).view(totals.shape)
    total, tokens, nats_of_bytes, size, apart, gauged = (sum(column) for column in everywhere.T.tolist())
    return Validation(
        loss=total / tokens,
        bits_per_byte=nats_of_bytes / (math.log(2) * size) if size else math.nan,
        kl_from_base=apart / gauged if gauged else None,
    )
