"""Cross-entropy of the softcapped output head, in chunks, so that the logits of a whole batch never exist at once.

At d32's vocabulary one token's fp32 logits take 256 KiB: a batch of 4 x 2048 tokens would need 2 GiB, and
backward several times that. Here a chunk's logits live only while its loss, and in training its gradient,
is computed; the gradient is made in the forward pass because nothing else is needed for it. With z the raw logits
and s = sigmoid(2 * z/c), which is much cheaper than tanh, the capped logits c * tanh(z/c) are 2 * c * s - c, whose
constant a softmax does not see, and d loss/dz = (softmax - onehot) * (1 - tanh(z/c)^2), the last being 4 * (s - s^2).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

SOFTCAP = 15.0
CHUNK_ELEMENTS = 1 << 22
"""Logits in one chunk on a CPU: 16 MiB in fp32, so that most passes over them stay in its caches."""
CHUNK_ELEMENTS_GPU = 1 << 25
"""And elsewhere: 128 MiB. Larger ones would need more than the head's gradient does for a moment, smaller ones add it
up more often."""
CHUNK_ROWS = 192
"""But not fewer rows than this: a smaller matrix product is slow."""


def cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed nats of `targets` (N,) under the head `weight` (V, C) at `hidden` (N, C): a differentiable fp32 scalar."""
    return _CrossEntropySum.apply(hidden, weight, targets)


def cross_entropy_gradient(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    scale: float,
    grad_weight: Tensor | None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(scale * summed nats, its gradient with respect to `hidden`, nats (N,)); the head's is added to `grad_weight`.

    `head` (V, C) is in the dtype of `hidden` (N, C), `grad_weight` (V, C) in that of the parameters, None
    for a frozen head. With `weights`, fp32 (N,), each target's nats count so often in the sum; those that are returned
    are without.
    """
    grad_hidden = torch.empty_like(hidden)
    nats = hidden.new_empty(len(hidden), dtype=torch.float32)
    total = hidden.new_zeros((), dtype=torch.float32)
    for rows in chunks(targets, len(head)):
        # The n rows of a chunk make two tensors (n, V), into which all that follows is written: another one of 16 MiB
        # would push these out of the processor's caches.
        sigmoid = _sigmoid(hidden[rows], head)
        gradient, sums = _exponentials(sigmoid)  # (n, V) and (n, 1): softmax is their quotient
        target = targets[rows, None]  # (n, 1)
        # Before the sigmoid is overwritten. The constant -c of the capped logits stands in both terms and is left out.
        found = sums.log() - sigmoid.gather(1, target).mul_(2 * SOFTCAP)
        nats[rows] = found[:, 0]
        factor: float | Tensor = 4 * scale
        if weights is not None:
            weight = weights[rows, None]  # (n, 1)
            found, factor = found * weight, weight * factor
        total += found.sum()
        # 4 * scale * (softmax - onehot): the 4 of the cap's derivative and the scale ride on a division of (n, 1), and
        # the one-hot is a subtraction at n places.
        gradient.mul_(factor / sums)
        gradient.scatter_add_(1, target, gradient.new_full(target.shape, -1.0).mul_(factor))
        gradient.mul_(sigmoid.addcmul_(sigmoid, sigmoid, value=-1))  # times s - s^2, in the sigmoid's memory
        del sigmoid
        gradient = gradient.to(hidden.dtype)  # rounded once, when all is summed
        torch.mm(gradient, head, out=grad_hidden[rows])
        if grad_weight is None:
            pass
        elif gradient.dtype == grad_weight.dtype:  # one pass over (V, C) instead of two
            grad_weight.addmm_(gradient.T, hidden[rows])
        else:
            grad_weight.add_(gradient.T @ hidden[rows])
        del gradient  # or it would be kept until the next chunk's has been made
    return total * scale, grad_hidden, nats


@torch.no_grad()
def token_nats(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Nats of each of the `targets` (N,): fp32 (N,), without gradient."""
    weight = weight.to(hidden.dtype)
    pieces = [hidden.new_empty(0, dtype=torch.float32)]
    for rows in chunks(targets, len(weight)):
        sigmoid = _sigmoid(hidden[rows], weight)
        _, sums = _exponentials(sigmoid)
        pieces.append((sums.log() - sigmoid.gather(1, targets[rows, None]).mul_(2 * SOFTCAP)).squeeze(1))
    return torch.cat(pieces)


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        if not any(ctx.needs_input_grad):
            return token_nats(hidden, weight, targets).sum()
        grad_weight = torch.zeros_like(weight)
        total, grad_hidden, _ = cross_entropy_gradient(hidden, weight.to(hidden.dtype), targets, 1.0, grad_weight)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * upstream.to(grad_hidden.dtype), grad_weight * upstream, None


def _sigmoid(hidden: Tensor, head: Tensor) -> Tensor:
    """sigmoid(2 * z/c) in fp32 for raw logits z = hidden @ head.T."""
    raw = torch.addmm(hidden.new_zeros(()), hidden, head.T, beta=0, alpha=2 / SOFTCAP)
    return raw.float().sigmoid_()


def _exponentials(sigmoid: Tensor) -> tuple[Tensor, Tensor]:
    """(exp(2 * c * sigmoid), their sums (N, 1)). At most exp(30), they overflow in no sum: no maximum is subtracted."""
    exponentials = torch.mul(sigmoid, 2 * SOFTCAP).exp_()
    return exponentials, exponentials.sum(1, keepdim=True)


def chunks(targets: Tensor, vocab_size: int) -> Iterator[slice]:
    """The rows of `targets`, on their device, in pieces whose logits may exist at once."""
    elements = CHUNK_ELEMENTS if targets.device.type == "cpu" else CHUNK_ELEMENTS_GPU
    size = max(CHUNK_ROWS, elements // vocab_size)
    return (slice(start, min(start + size, len(targets))) for start in range(0, len(targets), size))
