"""The model's operations with gradients written by hand: fewer passes over memory than autograd's, the same numbers.

On a CPU such a pass, and above all fresh memory, costs as much as many operations: each function reads and writes as
little as it can. Elsewhere norms and rotations are torch's own kernels. The gradient of a matrix or table is added
straight into a `.grad` that is there already (the training keeps them for good), and handed to autograd only where
there is none.

Rotary positions turn each pair of channels of a head by an angle that grows with the position (Su et al., RoFormer,
arXiv 2104.09864); the pairs are the halves of the head, as in nanochat.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat_core.model.shape import Generation

NORM_EPSILON = 1.1920929e-07  # float32's; nanochat leaves it at torch's default


def product(x: Tensor, weight: Tensor, cast: Tensor) -> Tensor:
    """x @ weight.T for x (..., inputs) and weight (outputs, inputs), of which `cast` is a copy in x's dtype."""
    return _Product.apply(x, weight, cast)


def lookup(ids: Tensor, table: Tensor, kept: Tensor | None = None) -> Tensor:
    """Rows of `table` (V, C) at `ids`: (*ids, C); read from `kept`, a copy in another dtype, where there is one."""
    values = table.detach() if kept is None else kept
    if torch.is_grad_enabled() and (kept is not None or (table.device.type == "cpu" and table.grad is not None)):
        return _Lookup.apply(ids, table, values)
    return F.embedding(ids, table if kept is None else kept)


def norm(x: Tensor) -> Tensor:
    """RMS norm over the last dimension, without weights."""
    if _is_training_on_cpu(x):
        return _Norm.apply(x)
    return F.rms_norm(x, (x.shape[-1],), eps=NORM_EPSILON)


def rotate_and_norm(x: Tensor, cos: Tensor, sin: Tensor, gain: float) -> Tensor:
    """gain * norm of the rotary position embedding of x (B, T, H, D), for cos and sin (B, T, 1, D / 2)."""
    if _is_training_on_cpu(x):
        return _RotateAndNorm.apply(x, cos, sin, gain)
    y = norm(rotate(x, cos, sin))
    return y if gain == 1.0 else y * gain


def squared_relu_mlp(x: Tensor, up: Tensor, up_cast: Tensor, down: Tensor, down_cast: Tensor) -> Tensor:
    """relu(x @ up.T)^2 @ down.T; `up_cast` and `down_cast` are copies of the matrices in x's dtype."""
    return _SquaredReluMlp.apply(x, up, up_cast, down, down_cast)


def _is_training_on_cpu(x: Tensor) -> bool:
    """Elsewhere torch has fused kernels for it, and without a gradient there is nothing to gain."""
    return x.device.type == "cpu" and torch.is_grad_enabled()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, cast: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, cast)
        return F.linear(x, cast)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, cast = ctx.saved_tensors
        inputs = gradient @ cast if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return inputs, None, None
        return inputs, add_product(weight, gradient.flatten(0, -2).T, x.flatten(0, -2)), None


def add_product(weight: Tensor, a: Tensor, b: Tensor) -> Tensor | None:
    """Add a @ b into weight.grad; where there is none, return it instead."""
    if weight.grad is None:
        return (a @ b).to(weight.dtype)
    if a.dtype == weight.grad.dtype:
        weight.grad.addmm_(a, b)
    else:
        weight.grad.add_(a @ b)
    return None


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(ids, table)
        return F.embedding(ids, values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ids, table = ctx.saved_tensors
        gradient = gradient.to(table.dtype)
        if table.device.type != "cpu" or table.grad is None:  # autograd's own kernel for F.embedding
            backward = torch.ops.aten.embedding_dense_backward
            return None, backward(gradient, ids, len(table), -1, scale_grad_by_freq=False), None
        # The rows that were looked up, added where they belong: autograd would make a table of zeros (V, C) first.
        table.grad.index_add_(0, ids.reshape(-1), gradient.reshape(-1, gradient.shape[-1]))
        return None, None, None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = _norm_scale(x)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _norm_backward(gradient, *ctx.saved_tensors)


class _RotateAndNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, gain: float) -> Tensor:
        y = torch.empty_like(x)
        _rotate(x, cos, sin, y)
        scale = _norm_scale(y)
        y.mul_(scale)
        ctx.save_for_backward(y, scale, cos, sin)
        ctx.gain = gain
        return y if gain == 1.0 else y * gain

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        y, scale, cos, sin = ctx.saved_tensors
        if ctx.gain != 1.0:
            gradient = gradient * ctx.gain
        turned = _norm_backward(gradient, y, scale)
        # A turn's gradient is the turn back, by the same angles: cos stays, sin changes its sign.
        back = torch.empty_like(turned)
        _rotate(turned, cos, -sin, back)
        return back, None, None, None


class _SquaredReluMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, up_cast: Tensor, down: Tensor, down_cast: Tensor) -> Tensor:
        relu = F.linear(x, up_cast).relu_()
        squared = relu.square()
        ctx.save_for_backward(x, relu, squared, up, up_cast, down, down_cast)
        return F.linear(squared, down_cast)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, relu, squared, up, up_cast, down, down_cast = ctx.saved_tensors
        grad_down = add_product(down, gradient.flatten(0, -2).T, squared.flatten(0, -2))
        inner = (gradient * 2) @ down_cast  # the factor of the square's derivative, where it is cheapest
        inner.mul_(relu)  # 0 where relu cut: no mask is needed
        grad_up = add_product(up, inner.flatten(0, -2).T, x.flatten(0, -2))
        return inner @ up_cast, grad_up, None, grad_down, None


def _norm_scale(x: Tensor) -> Tensor:
    """1 / the root of the mean square of the last dimension, (..., 1)."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
    return length.square_().div_(x.shape[-1]).add_(NORM_EPSILON).rsqrt_().to(x.dtype)


def _norm_backward(gradient: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Gradient of x for y = x * scale(x): scale * (gradient - y * mean(gradient * y))."""
    along = torch.linalg.vecdot(gradient, y)[..., None].div_(-y.shape[-1])
    return torch.addcmul(gradient, y, along).mul_(scale)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """The halves (a, b) of x turned to (a cos + b sin, b cos - a sin)."""
    (a, b), (first, second) = x.chunk(2, -1), out.chunk(2, -1)
    torch.mul(a, cos, out=first).addcmul_(b, sin)
    torch.mul(b, cos, out=second).addcmul_(a, sin, value=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn (B, T, H, D) by the angles whose cos and sin are (B, T, 1, D / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos + second * sin, second * cos - first * sin], -1)


class RotaryTable:
    """cos and sin of every position so far asked for, in fp32; made again for more of them or another device."""

    def __init__(self, generation: Generation, head_dim: int, length: int):
        """length: positions that are made at least."""
        self._generation, self._head_dim, self._length = generation, head_dim, length
        self._table: tuple[Tensor, Tensor] | None = None

    def of(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """cos and sin, each (`length` or more, head_dim / 2), on `device`."""
        table = self._table
        if table is None or table[0].device != device or len(table[0]) < length:
            self._table = table = self._made(max(length, self._length), device)
        return table  # not what lies there now: another thread may have put a shorter one

    def _made(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        channels = torch.arange(0, self._head_dim, 2, dtype=torch.float32, device=device)
        frequencies = 1.0 / (self._generation.rope_base ** (channels / self._head_dim))
        angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
        cos, sin = angles.cos(), angles.sin()
        if self._generation.rounds_rotary:
            cos, sin = cos.bfloat16().float(), sin.bfloat16().float()
        return cos, sin
