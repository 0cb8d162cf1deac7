"""Causal attention over rows that are packed end to end, such that none attends to another.

Everything but attention works on the packed tokens without any padding. For attention a CPU takes each conversation
by itself, in blocks of queries that see only the keys before their end: plain products and a softmax, with their
gradient by hand, are there faster than the kernel of torch. Elsewhere the conversations are laid side by side in a
rectangle: padding lies at each row's end, where the causal mask hides it from every real token, so one plain causal
call is exact and the fast kernels of every device apply.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128
"""Queries that are computed together on a CPU: larger ones waste work beyond the diagonal, smaller ones time."""

KEPT_KEYS = 512
"""Attention weights over more keys are computed again for the gradient, so that memory grows as the tokens do."""


@dataclass(frozen=True)
class Layout:
    """How the B * T tokens of a batch fall into conversations."""

    positions: Tensor
    """Position of each token in its conversation, (B, T)."""
    longest: int
    """Tokens of the longest conversation."""
    lengths: list[int] | None = None
    """Tokens of each conversation, laid end to end; None when each row is one."""
    rectangle: Tensor | None = None
    """For each cell of the (conversations, longest) rectangle the index of its token; padding points to token 0."""
    cells: Tensor | None = None
    """For each token the index of its cell, (B * T,)."""

    @staticmethod
    def of(shape: Sequence[int], lengths: list[int] | None) -> "Layout":
        """The layout, on the host, of (B, T) tokens: a conversation a row, or conversations of these lengths."""
        B, T = shape
        if lengths is None:
            return Layout(torch.arange(T).expand(B, T), T)
        if sum(lengths) != B * T or min(lengths, default=0) < 1:
            raise ValueError(f"lengths add up to {sum(lengths)} tokens but the batch holds {B * T}; they must agree.")
        longest = max(lengths)
        columns, sizes = np.arange(longest), np.array(lengths)[:, None]
        real = columns < sizes  # (conversations, longest)
        # Padding is any token, each place another one: in the gradient, a GPU adds those of the same one up one by one.
        padding = np.arange(real.size).reshape(real.shape) % (B * T)
        rectangle = torch.from_numpy(np.where(real, np.cumsum(sizes)[:, None] - sizes + columns, padding).reshape(-1))
        cells = torch.from_numpy(np.flatnonzero(real))
        return Layout((cells % longest).view(B, T), longest, lengths, rectangle, cells)

    def to(self, device: torch.device) -> "Layout":
        """The same on `device`, without waiting for it when the tensors are pinned."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Layout":
        """The same in memory from which a GPU copies by itself."""
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Layout":
        rectangle, cells = (None if tensor is None else change(tensor) for tensor in (self.rectangle, self.cells))
        return Layout(change(self.positions), self.longest, self.lengths, rectangle, cells)


def attend(q: Tensor, k: Tensor, v: Tensor, layout: Layout, window: int | None) -> Tensor:
    """Causal attention of q (B, T, H, D) to k, v (B, T, H_kv, D) within each conversation; (B, T, H, D).

    `window` keeps only the keys with query - key <= window.
    """
    if layout.rectangle is None:
        return _attend_rows(q, k, v, window)
    B, T = q.shape[:2]
    if q.device.type == "cpu" and q.shape[2] == k.shape[2]:
        return _BlockedAttention.apply(*(t.flatten(0, 1) for t in (q, k, v)), layout.lengths, window).view_as(q)
    q, k, v = (t.reshape(B * T, *t.shape[2:])[layout.rectangle].unflatten(0, (-1, layout.longest)) for t in (q, k, v))
    return _attend_rows(q, k, v, window).flatten(0, 1)[layout.cells].view(B, T, *q.shape[2:])


def causal_mask(positions: Tensor, keys: int, window: int | None) -> Tensor:
    """Which of the first `keys` positions each query at `positions` (B, T) sees: bool (B, T, keys)."""
    distance = positions[..., None] - torch.arange(keys, device=positions.device)
    return (distance >= 0) if window is None else (distance >= 0) & (distance <= window)


def _attend_rows(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    T = q.shape[1]
    mask = None
    if window is not None and window + 1 < T:
        mask = causal_mask(torch.arange(T, device=q.device)[None], T, window)
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return y.transpose(1, 2)


class _BlockedAttention(torch.autograd.Function):
    """Attention of q to k, v, all (N, H, D), within conversations of `lengths` laid end to end.

    With S = q k' / sqrt(D), P = softmax(S) and y = P v, let g be the gradient of y. Then v has P' g, P has g v', and S
    has dS = P * (g v' - its mean under P), which is softmax's rule; q has dS k / sqrt(D), and k has dS' q / sqrt(D).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, lengths: list[int], window: int | None) -> Tensor:
        out = torch.empty_like(q)
        q = q * q.shape[2] ** -0.5  # here rather than in the scores, which are more
        # A head first, (H, N, D), as views: bmm takes them as they lie, and writes to its place in `out`.
        q_heads, k_heads, v_heads, out_heads = (t.transpose(0, 1) for t in (q, k, v, out))
        weights = []
        for queries, keys, mask in _blocks(lengths, window, q.dtype):
            weight = _softmax(q_heads[:, queries], k_heads[:, keys], mask)  # (H, queries, keys)
            torch.bmm(weight, v_heads[:, keys], out=out_heads[:, queries])
            weights.append(weight if weight.shape[2] <= KEPT_KEYS else None)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(q, k, v, *weights)
            ctx.lengths, ctx.window = lengths, window
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *weights = ctx.saved_tensors  # q as it was scaled
        # Each query is in one block, each key also in its conversation's later ones, whose shares are added up.
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        gradient, q, k, v = (t.transpose(0, 1) for t in (gradient, q, k, v))
        to_q, to_k, to_v = (t.transpose(0, 1) for t in (grad_q, grad_k, grad_v))
        for (queries, keys, mask), weight in zip(_blocks(ctx.lengths, ctx.window, q.dtype), weights):
            if weight is None:
                weight = _softmax(q[:, queries], k[:, keys], mask)
            upstream = gradient[:, queries]  # (H, queries, D)
            # Where a mask hid a key its weight is 0, and so is the gradient of its score: no mask is needed again.
            scores = torch._softmax_backward_data(upstream @ v[:, keys].mT, weight, -1, weight.dtype)
            to_q[:, queries] = scores @ k[:, keys]
            to_k[:, keys] += scores.mT @ q[:, queries]
            to_v[:, keys] += weight.mT @ upstream
        # The factor of S: k's gradient has it from the scaled q, q's lacks it still.
        return grad_q.mul_(grad_q.shape[2] ** -0.5), grad_k, grad_v, None, None


def _softmax(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Attention weights (H, queries, keys); the mask lies over the last keys."""
    scores = q @ k.mT
    scores[:, :, -mask.shape[1] :].add_(mask)
    return torch.softmax(scores, -1)


def _blocks(lengths: list[int], window: int | None, dtype: torch.dtype) -> Iterator[tuple[slice, slice, Tensor]]:
    """(queries, keys, mask) of every block: tokens of the packed row, and what the scores of its last keys get added.

    The mask is -inf where a key is after its query, or before its window; keys that it does not cover are all seen.
    """
    causal = torch.full((BLOCK, BLOCK), -math.inf, dtype=dtype).triu_(1)
    start = 0
    for length in lengths:
        for first in range(0, length, BLOCK):
            last = min(first + BLOCK, length)
            mask, seen = causal[: last - first, : last - first], 0
            if window is not None and window + 1 < last:
                seen = max(0, first - window)
                visible = causal_mask(torch.arange(first - seen, last - seen)[None], last - seen, window)[0]
                mask = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, -math.inf)
            yield slice(start + first, start + last), slice(start + seen, start + last), mask
        start += length
