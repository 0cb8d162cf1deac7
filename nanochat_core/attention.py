"""Causal attention over rows that are packed end to end, such that none attends to another.

Everything but attention works on the packed tokens without any padding. For attention alone the conversations
are laid side by side in a rectangle: padding lies at each row's end, where the causal mask hides it from
every real token, so one plain causal call is exact and the fast kernels of every device apply.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How the B * T tokens of a batch fall into conversations."""

    positions: Tensor
    """Position of each token in its conversation, (B, T)."""
    rectangle: Tensor | None = None
    """For each cell of the (conversations, longest) rectangle the index of its token; padding points to token 0."""
    cells: Tensor | None = None
    """For each token the index of its cell, (B * T,)."""
    longest: int = 0

    @staticmethod
    def of(shape: tuple[int, int], lengths: list[int] | None, device: torch.device) -> "Layout":
        """The layout of (B, T) tokens: one conversation a row, or conversations of these lengths laid end to end."""
        B, T = shape
        if lengths is None:
            return Layout(torch.arange(T, device=device).expand(B, T))
        if sum(lengths) != B * T or min(lengths, default=0) < 1:
            raise ValueError(f"lengths add up to {sum(lengths)} tokens but the batch holds {B * T}; they must agree.")
        longest = max(lengths)
        columns = torch.arange(longest)
        sizes = torch.tensor(lengths)[:, None]
        real = columns < sizes  # (conversations, longest)
        starts = torch.cumsum(sizes, 0) - sizes
        rectangle = torch.where(real, starts + columns, 0).reshape(-1)
        cells = real.reshape(-1).nonzero().squeeze(1)
        positions = (cells % longest).view(B, T)
        return Layout(positions.to(device), rectangle.to(device), cells.to(device), longest)


def attend(q: Tensor, k: Tensor, v: Tensor, layout: Layout, window: int | None) -> Tensor:
    """Causal attention of q (B, T, H, D) to k, v (B, T, H_kv, D) within each conversation; (B, T, H, D).

    `window` keeps only the keys with query - key <= window.
    """
    if layout.rectangle is None:
        return _attend_rows(q, k, v, window)
    B, T = q.shape[:2]
    rows = [t.reshape(B * T, *t.shape[2:])[layout.rectangle].unflatten(0, (-1, layout.longest)) for t in (q, k, v)]
    return _attend_rows(*rows, window).flatten(0, 1)[layout.cells].view(B, T, *q.shape[2:])


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
        *(t.transpose(1, 2) for t in (q, k, v)),
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return y.transpose(1, 2)
