"""What an output head predicts, token by token, and how far two models' predictions are apart; in chunks, as the loss.

Sums over the vocabulary are made in fp32 on the device and what is left of them, a number a token, in fp64 on the
host, so that a mean over tokens is as good as one of a computation in fp64.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nanochat_core.model.loss import SOFTCAP, chunks


@dataclass(frozen=True)
class Predictions:
    """Of N tokens, on the host."""

    nats: Tensor
    """float64 (N,): how unexpected each target was."""
    right: Tensor
    """bool (N,): whether it was the likeliest token."""


@torch.no_grad()
def predictions(hidden: Tensor, weight: Tensor, targets: Tensor) -> Predictions:
    """Of the `targets` (N,) under the head `weight` (V, C) at `hidden` (N, C)."""
    weight = weight.to(hidden.dtype)
    columns = [hidden.new_empty((0, 3), dtype=torch.float32)]
    for rows in chunks(targets, len(weight)):
        logits = _capped(hidden[rows], weight)
        target = targets[rows, None]
        right = (logits.argmax(1, keepdim=True) == target).float()
        columns.append(torch.cat([logits.gather(1, target), logits.exp_().sum(1, keepdim=True), right], 1))
    chosen, total, right = torch.cat(columns).cpu().double().unbind(1)
    return Predictions(total.log() - chosen, right > 0)


@torch.no_grad()
def divergence(base: Tensor, base_weight: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
    """float64 (N,) on the host: KL(base || this) of the next token's distribution, in nats, at each of N places.

    base (N, C) with base_weight (V, C), and hidden with weight: the last hidden states and heads of the two models.
    """
    base_weight, weight = base_weight.to(base.dtype), weight.to(hidden.dtype)
    columns = [hidden.new_empty((0, 3), dtype=torch.float32)]
    for rows in chunks(hidden, len(weight)):
        theirs, ours = _capped(base[rows], base_weight), _capped(hidden[rows], weight)
        apart = theirs - ours
        theirs, ours = theirs.exp_(), ours.exp_()
        total = theirs.sum(1, keepdim=True)
        columns.append(
            torch.cat([apart.mul_(theirs).sum(1, keepdim=True) / total, total, ours.sum(1, keepdim=True)], 1)
        )
    apart, total, ours = torch.cat(columns).cpu().double().unbind(1)
    return apart - total.log() + ours.log()


def _capped(hidden: Tensor, weight: Tensor) -> Tensor:
    """fp32 logits (n, V). At most SOFTCAP, they need no maximum subtracted before they are exponents."""
    return (hidden @ weight.T).float().div_(SOFTCAP).tanh_().mul_(SOFTCAP)
