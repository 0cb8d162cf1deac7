"""Learning from corrections: DPO beside the ordinary loss, without a second model in memory.

For an answer of c nats and the rejected one of r, which were c0 and r0 before the training, the loss of the pair is
-log sigmoid(z) with z = beta * ((r - r0) - (c - c0)) (Rafailov et al. 2023, arXiv 2305.18290, equation 7). Its gradient
is beta * sigmoid(-z) * (grad c - grad r): that of nats with a weight each, which is known as soon as the nats are. So a
step takes the nats of a batch first, and then the gradient of the weighted nats, in one pass through the blocks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.tokens.plan import Examples
from nanochat_core.model.batch import Batch, Pairs, Reference, pack
from nanochat_core.model.gpt import GPT, Weigh
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.figures import ExampleLoss

BETA = 0.1
"""How far the model may move from where it was before a pair counts as learned; the usual value of DPO."""

PAIRS_SHARE = 0.3
"""Weight of the mean pair's loss beside the mean nat of what is trained. At 1 the push away from the rejected answers
disturbs what is learned: of 20 reworded questions the starter then answered 12, with 0.3 and with 0.1 14 to 15."""


@dataclass(frozen=True)
class PreferenceLoss:
    """How the pairs of a step stood before its update."""

    preference_loss: float
    """Mean nats of -log sigmoid(z); ln 2 at the beginning."""
    preferred: float
    """Share of the pairs, 0 to 1, whose answer has gained on the rejected one since the beginning."""


def weigh_pairs(examples: Sequence[Example]) -> Weigh:
    """The weights of a step of these examples: 1 for what is trained, and the pull of each pair.

    PAIRS_SHARE of the mean over the step's pairs is added to the mean over its supervised tokens, hence the quotient.
    """
    pairs = sum(len(example.rejected) for example in examples)
    supervised = sum(example.supervised for example in examples)

    def weigh(batch: Batch, nats: Tensor) -> Tensor:
        assert batch.pairs is not None
        share = PAIRS_SHARE * supervised / pairs
        pull = share * BETA * torch.sigmoid(-BETA * gains(nats, batch.pairs))
        return (batch.pairs.sign >= 0) + batch.pairs.sign * pull[batch.pairs.pair]

    return weigh


def trained_loss(nats: Tensor, pairs: Pairs) -> Tensor:
    """The summed nats of the answers that are trained, without those of rejected ones: an fp32 scalar."""
    return (nats * (pairs.sign >= 0)).sum()


def gains(nats: Tensor, pairs: Pairs) -> Tensor:
    """(r - r0) - (c - c0) of each pair, fp32 (P,), from the nats (K,) of a batch's labels."""
    return torch.zeros_like(pairs.reference).index_add_(0, pairs.pair, -pairs.sign * nats) - pairs.reference


def preference_loss(examples: Sequence[ExampleLoss], reference: Reference | None) -> PreferenceLoss | None:
    """The figures of the pairs of a step; None without pairs."""
    if reference is None or not any(one.margins for one in examples):
        return None
    found = [now - then for one in examples if one.margins for now, then in zip(one.margins, reference[one.index])]
    losses = [math.log1p(math.exp(-abs(BETA * gain))) + max(-BETA * gain, 0.0) for gain in found]
    return PreferenceLoss(sum(losses) / len(found), sum(gain > 0 for gain in found) / len(found))


@torch.no_grad()
def measure_reference(model: GPT, examples: Examples, batch_size: int, ranks: Ranks) -> dict[int, list[float]]:
    """r0 - c0 of every pair of the examples by the model as it is, the same on every rank."""
    model.eval()
    with_pairs = list(examples.only_with_rejected())
    batches = [with_pairs[start : start + batch_size] for start in range(0, len(with_pairs), batch_size)]
    values: list[float] = []
    for number, examples_of in enumerate(batches):
        count = sum(len(example.rejected) for example in examples_of)
        values += _margins(model, examples_of) if number % ranks.world == ranks.rank else [0.0] * count
    everywhere = iter(ranks.sum(values))
    return {example.index: [next(everywhere) for _ in example.rejected] for example in with_pairs}


def _margins(model: GPT, examples: Sequence[Example]) -> list[float]:
    batch = pack(examples, {example.index: [0.0] * len(example.rejected) for example in examples}).to(model.device)
    assert batch.pairs is not None
    nats, _ = model.token_nats(batch.ids, batch.targets, batch.lengths)
    return gains(nats, batch.pairs).tolist()
