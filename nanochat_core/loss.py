"""Cross-entropy of the softcapped output head, in chunks, so that the logits of a whole batch never exist at once.

At d32's vocabulary one token's fp32 logits take 256 KiB: a batch of 4 x 2048 tokens would need 2 GiB, and
backward several times that. Here a chunk's logits live only while its loss, and in training its gradient,
is computed; the gradient is made in the forward pass because nothing else is needed for it:
with z the raw logits, t = tanh(z/c) and l = c*t the capped ones, d loss/dz = (softmax(l) - onehot) * (1 - t^2).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

SOFTCAP = 15.0
CHUNK_ELEMENTS = 1 << 22
"""Logits in one chunk on a CPU: 16 MiB in fp32, so that most passes over them stay in its caches."""
CHUNK_ELEMENTS_GPU = 1 << 26
"""And elsewhere: 256 MiB, so that the head's gradient is not added up too often."""
CHUNK_ROWS = 192
"""But not fewer rows than this: a smaller matrix product is slow."""


def cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed nats of `targets` (N,) under the head `weight` (V, C) at `hidden` (N, C): a differentiable fp32 scalar."""
    return _CrossEntropySum.apply(hidden, weight, targets)


def cross_entropy_gradient(
    hidden: Tensor, head: Tensor, targets: Tensor, scale: float, grad_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """(scale * summed nats, its gradient with respect to `hidden`); that of the head is added to `grad_weight`.

    `head` (V, C) is in the dtype of `hidden` (N, C), `grad_weight` (V, C) in that of the parameters.
    """
    grad_hidden = torch.empty_like(hidden)
    total = hidden.new_zeros((), dtype=torch.float32)
    for rows in _chunks(targets, len(head)):
        capped = _capped(hidden[rows], head)
        softmax, sums = _exponentials(capped)
        target = targets[rows, None]
        total += (sums.log() - capped.gather(1, target).mul_(SOFTCAP)).sum()
        gradient = softmax.mul_(scale / sums)
        gradient.scatter_add_(1, target, gradient.new_full(target.shape, -scale))
        gradient.addcmul_(gradient, capped.square_(), value=-1)
        gradient = gradient.to(hidden.dtype)
        torch.mm(gradient, head, out=grad_hidden[rows])
        if gradient.dtype == grad_weight.dtype:
            grad_weight.addmm_(gradient.T, hidden[rows])
        else:
            grad_weight.add_(gradient.T @ hidden[rows])
    return total * scale, grad_hidden


@torch.no_grad()
def token_nats(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Nats of each of the `targets` (N,): fp32 (N,), without gradient."""
    weight = weight.to(hidden.dtype)
    pieces = [hidden.new_empty(0, dtype=torch.float32)]
    for rows in _chunks(targets, len(weight)):
        capped = _capped(hidden[rows], weight)
        _, sums = _exponentials(capped)
        pieces.append((sums.log() - capped.gather(1, targets[rows, None]).mul_(SOFTCAP)).squeeze(1))
    return torch.cat(pieces)


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        grad_weight = torch.zeros_like(weight)
        total, grad_hidden = cross_entropy_gradient(hidden, weight.to(hidden.dtype), targets, 1.0, grad_weight)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx, upstream: Tensor):
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * upstream.to(grad_hidden.dtype), grad_weight * upstream, None


def _capped(hidden: Tensor, head: Tensor) -> Tensor:
    """tanh(z/c) in fp32 for raw logits z = hidden @ head.T."""
    return (hidden @ head.T).float().div_(SOFTCAP).tanh_()


def _exponentials(capped: Tensor) -> tuple[Tensor, Tensor]:
    """(exp(c * capped), their sums (N, 1)). Capped at 15 they cannot overflow, so no maximum need be subtracted."""
    exponentials = torch.mul(capped, SOFTCAP).exp_()
    return exponentials, exponentials.sum(1, keepdim=True)


def _chunks(targets: Tensor, vocab_size: int) -> Iterator[slice]:
    elements = CHUNK_ELEMENTS if targets.device.type == "cpu" else CHUNK_ELEMENTS_GPU
    size = max(CHUNK_ROWS, elements // vocab_size)
    return (slice(start, min(start + size, len(targets))) for start in range(0, len(targets), size))
