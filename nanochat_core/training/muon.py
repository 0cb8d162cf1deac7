"""Muon with a cheaper way to the same update: fewer and half-computed matrix products in Newton-Schulz.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum X of a matrix, m x n with
m <= n, by five steps of X <- QX with Q = aI + bG + cG^2 and G = XX'. Here

- symmetric products (G, G^2 and whatever commutes with G) are computed above the diagonal only, and mirrored;
- for wide matrices two steps become one pass over X, X <- (Q2 Q1) X, where the second step's G is G Q1^2: all of these
  are polynomials of one matrix. What bf16 loses of the smallest singular values grows twelvefold with each step, until
  G is made again from X: passes of three steps would be farther from the exact result than torch.optim.Muon is;
- sums of opposite signs that nearly cancel are rounded once. So the result is nearer to the exact one than torch's.

Products of 2m^3 FLOPs per matrix, in blocks: 11.3 instead of 15 where n = m, 27.1 instead of 45 where n = 4m. At d32
(128 of 2048 x 2048, 64 of 2048 x 8192) that is 55 TFLOP per step instead of 82. Where there is compiled code for it
(newton_schulz.py), 10 and 19: d8 needs 167 GFLOP instead of 322.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nanochat_core.compute.devices import choose_compute_dtype
from nanochat_core.training.newton_schulz import can_orthogonalize, orthogonalize_compiled
from nanochat_core.training.symmetric import Buffers, commuting, gram, multiply, polynomial

A, B, C = 3.4445, -4.7750, 2.0315
"""Coefficients of the quintic step; nanochat's and torch.optim.Muon's."""
EPSILON = 1e-7
WIDE_FROM = 1.5
"""Columns to a row from which fewer passes over X pay."""
LARGE_FROM = 128
"""Rows from which they do: below, nothing costs much."""
STACKED_ELEMENTS = 1 << 25
"""Away from the CPU matrices of one shape are computed together, up to this many elements."""


class Muon(Optimizer):
    """Muon as nanochat has it: Nesterov momentum, rate times sqrt(max(1, rows / columns)), decoupled weight decay.

    Takes matrices only. The state of each is its "momentum_buffer", as in torch.optim.Muon. Newton-Schulz runs in bf16
    where the device is fast with it, else in fp32.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        kept: Buffers | None = None,
    ):
        """kept: memory to compute in, which several optimizers that take turns may share."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            assert all(parameter.ndim == 2 for parameter in group["params"]), "Muon is for matrices"
        self._kept = kept or Buffers()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Change every parameter that has a gradient."""
        assert closure is None, "the gradients are computed before the step"
        for group in self.param_groups:
            for parameters in _stacks([p for p in group["params"] if p.grad is not None]):
                self._change(parameters, group)

    def _change(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        first = parameters[0]
        rate = group["lr"] * math.sqrt(max(1.0, first.shape[0] / first.shape[1]))
        for parameter, update in zip(parameters, self._updates(parameters, group["momentum"])):
            if group["weight_decay"]:
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
            parameter.add_(update, alpha=-rate)

    def _updates(self, parameters: list[Tensor], momentum: float) -> Iterable[Tensor]:
        """The orthogonalized directions of parameters of one shape."""
        first, count = parameters[0], len(parameters)
        dtype = choose_compute_dtype("bfloat16", first.device)
        if count == 1 and dtype == torch.bfloat16 and can_orthogonalize(first.device):
            direction, norm = self._direction(first, momentum)
            return [orthogonalize_compiled(direction, norm, (A, B, C), self._kept)]
        stack = self._kept.take("x", (count, *first.shape), dtype, first.device)
        for parameter, x in zip(parameters, stack):
            direction, norm = self._direction(parameter, momentum)
            x.copy_(direction.div_(norm))
        return orthogonalize(stack if count > 1 else stack[0], self._kept).view(stack.shape)

    def _direction(self, parameter: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
        """The Nesterov momentum of a parameter, and its Frobenius norm."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient, memory_format=torch.preserve_format)
        buffer = state["momentum_buffer"].lerp_(gradient, 1.0 - momentum)
        direction = self._kept.take("direction", gradient.shape, gradient.dtype, gradient.device)
        torch.lerp(gradient, buffer, momentum, out=direction)
        return direction, torch.linalg.vector_norm(direction, dtype=torch.float32).clamp(min=EPSILON)


def orthogonalize(x: Tensor, kept: Buffers) -> Tensor:
    """Five Newton-Schulz steps on x (rows, columns), or (count, rows, columns), of Frobenius norm at most 1 each.

    Returns x's shape and dtype, in memory of `kept` or in x, which is overwritten.
    """
    small, large = sorted(x.shape[-2:])
    is_wide = small >= LARGE_FROM and large >= WIDE_FROM * small
    other = kept.take("other", x.shape, x.dtype, x.device)
    work = _Pass(x, kept)
    for advance in _WIDE if is_wide else _SQUARE:
        advance(work, x, other)
        x, other = other, x
    return x


class _Pass:
    """The ways to go a step or two, from x to `out`."""

    def __init__(self, x: Tensor, kept: Buffers):
        small = min(x.shape[-2:])
        names = ("gram", "factor", "product", "factors")
        shape = (*x.shape[:-2], small, small)
        self._gram, self._factor, self._product, self._factors = (
            kept.take(name, shape, x.dtype, x.device) for name in names
        )
        self._is_tall = x.shape[-2] > x.shape[-1]

    def add(self, x: Tensor, out: Tensor) -> None:
        """A step as aX + (bG + cG^2) X: closest while the singular values are small and Q is near to aI."""
        gram(x, self._gram)
        # Without its aI the factor is small and loses little in bf16; aX is added to sums that are not rounded yet.
        self._times_x(polynomial(self._gram, 0.0, B, C, self._factor), x, out, A)

    def once(self, x: Tensor, out: Tensor) -> None:
        """A step as QX: closest for singular values about 1, where aI and bG nearly cancel."""
        gram(x, self._gram)
        # For a singular value of 1 the terms are 3.4 - 4.8 + 2.0. Summed in Q first, what is rounded is 0.7. In `add`
        # it would be -2.7, with four times the error.
        self._times_x(polynomial(self._gram, A, B, C, self._factor), x, out)

    def twice(self, x: Tensor, out: Tensor) -> None:
        """Two steps, as (Q2 Q1) X."""
        first = polynomial(gram(x, self._gram), A, B, C, self._factor)
        # The Gram matrix that Q1 X would have, G Q1^2, without that pass over X. G commutes with Q1, a polynomial of
        # it, so that both products are symmetric and half of each is enough.
        commuting(commuting(self._gram, first, self._product), first, self._gram)
        second = polynomial(self._gram, A, B, C, self._product)
        # In this order and not mirrored: what Q2 lost in rounding then acts on Q1 X, which is small where Q1 was large.
        multiply(second, first, self._factors)
        self._times_x(self._factors, x, out)

    def _times_x(self, factor: Tensor, x: Tensor, out: Tensor, beta: float = 0.0) -> None:
        """factor x + beta x into `out`; for a tall x from the right."""
        left, right = (x, factor.mT) if self._is_tall else (factor, x)
        multiply(left, right, out, x if beta else None, beta)


# With `add` alone the result is as far from the exact one as torch.optim.Muon's, which steps so: 1.0% to 1.5% for
# singular values that fall slowly. The last two steps as `once` make it 0.7% to 1.2%, at the same cost.
_SQUARE = (_Pass.add, _Pass.add, _Pass.add, _Pass.once, _Pass.once)
# Five steps in three passes, in the order that was never a tenth farther than torch.optim.Muon. With both double steps
# first, some of the same matrices were a third farther than its result; with both last, three quarters.
_WIDE = (_Pass.twice, _Pass.add, _Pass.twice)


def _stacks(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """The parameters in groups of one shape; on a CPU each by itself, where its matrices stay in the cache."""
    by_shape = defaultdict(list)
    for parameter in parameters:
        by_shape[parameter.shape, parameter.device].append(parameter)
    for same in by_shape.values():
        size = 1 if same[0].device.type == "cpu" else max(1, STACKED_ELEMENTS // same[0].numel())
        for start in range(0, len(same), size):
            yield same[start : start + size]
