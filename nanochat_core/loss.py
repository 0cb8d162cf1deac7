"""Cross-entropy of the softcapped output head, in chunks, so that the logits of a whole batch never exist at once.

At d32's vocabulary one token's fp32 logits take 256 KiB: a batch of 4 x 2048 tokens would need 2 GiB, and
backward several times that. Here a chunk's logits live only while its loss, and in training its gradient,
is computed; the gradient is made in the forward pass because nothing else is needed for it:
with z the raw logits, t = tanh(z/c) and l = c*t the capped ones, d loss/dz = (softmax(l) - onehot) * (1 - t^2).
"""

import torch
from torch import Tensor

SOFTCAP = 15.0
CHUNK_ELEMENTS = 1 << 24
"""Logits in one chunk: 64 MiB in fp32."""


def cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed nats of `targets` (N,) under the head `weight` (V, C) at `hidden` (N, C): a differentiable fp32 scalar."""
    return _CrossEntropySum.apply(hidden, weight, targets)


@torch.no_grad()
def token_nats(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Nats of each of the `targets` (N,): fp32 (N,), without gradient."""
    weight = weight.to(hidden.dtype)
    pieces = [hidden.new_empty(0, dtype=torch.float32)]
    for rows in _chunks(len(targets), len(weight)):
        _, logits = _capped_logits(hidden[rows], weight)
        pieces.append(torch.logsumexp(logits, 1) - logits.gather(1, targets[rows, None]).squeeze(1))
    return torch.cat(pieces)


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        head = weight.to(hidden.dtype)
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden) if wanted else None
        grad_weight = torch.zeros_like(weight) if wanted else None
        total = hidden.new_zeros((), dtype=torch.float32)
        for rows in _chunks(len(targets), len(head)):
            tanh, logits = _capped_logits(hidden[rows], head)
            log_sum = torch.logsumexp(logits, 1, keepdim=True)
            target = targets[rows, None]
            total += (log_sum - logits.gather(1, target)).sum()
            if wanted:
                gradient = logits.sub_(log_sum).exp_()
                gradient.scatter_add_(1, target, gradient.new_full(target.shape, -1.0))
                gradient.mul_(tanh.square_().neg_().add_(1.0))
                gradient = gradient.to(hidden.dtype)
                torch.mm(gradient, head, out=grad_hidden[rows])
                grad_weight.add_(gradient.T @ hidden[rows])
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx, upstream: Tensor):
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * upstream.to(grad_hidden.dtype), grad_weight * upstream, None


def _capped_logits(hidden: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
    """(tanh(z/c), c*tanh(z/c)) in fp32 for raw logits z = hidden @ head.T."""
    tanh = (hidden @ head.T).float().div_(SOFTCAP).tanh_()
    return tanh, tanh * SOFTCAP


def _chunks(count: int, vocab_size: int):
    size = max(1, CHUNK_ELEMENTS // vocab_size)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
