"""A micro-batch's way through the model, of which only the borders of the blocks are kept.

Backward each block is computed again from its input. The numbers are those of one backward pass through all blocks, to
the last bit, because the very same kernels run on the same inputs. For that the first pass, too, is computed with
gradients on (without them the functions of the model take other kernels), a block's graph being dropped at once.
"""

from typing import Protocol

import torch
from torch import Tensor

from nanochat_core.model.batch import Batch
from nanochat_core.model.gpt import GPT, Weigh


class Borders(Protocol):
    """Keeps what enters the blocks of one micro-batch."""

    def put(self, layer: int, border: Tensor) -> None:
        """Keep what enters block `layer`."""

    def get(self, layer: int) -> Tensor:
        """What enters block `layer`, on the device."""

    def expect(self, layer: int) -> None:
        """What enters block `layer` is asked for next."""

    def drop(self, layer: int) -> None:
        """It is not needed again."""


class HeldBorders:
    """Borders where they are."""

    def __init__(self) -> None:
        self._held: dict[int, Tensor] = {}

    def put(self, layer: int, border: Tensor) -> None:
        """Keep what enters block `layer`."""
        self._held[layer] = border

    def get(self, layer: int) -> Tensor:
        """What enters block `layer`."""
        return self._held[layer]

    def expect(self, layer: int) -> None:
        """It is there."""

    def drop(self, layer: int) -> None:
        """It is not needed again."""
        del self._held[layer]


class Pass:
    """One micro-batch between its first look at the embedding and its last gradient.

    The calls are `enter`, `forward` of each layer, `turn` at the head, `backward` of each layer from the last on, and
    `finish`. Between them other micro-batches take theirs. Gradients are added to the parameters' `.grad`.
    """

    def __init__(self, model: GPT, batch: Batch, borders: Borders):
        self._model, self._batch, self._borders = model, batch, borders
        self._context = model.context(batch.layout)
        self._last = model.config.n_layer - 1
        self._start: Tensor | None = None
        self._gradient: Tensor | None = None
        """Of what leaves the block that is next on the way back."""
        self._start_gradient: Tensor | None = None
        """Of what entered the first block, by the ways that lead there past the blocks in between."""
        self._middle_gradient: Tensor | None = None

    @torch.enable_grad()
    def enter(self) -> None:
        """Embed the tokens."""
        self._keep(0, self._model.enter(self._batch.ids, self._batch.layout).detach())

    @torch.enable_grad()
    def forward(self, layer: int) -> None:
        """Compute block `layer`, once those before it are."""
        self._keep(layer + 1, self._through(layer, *self._leaves(layer)).detach())

    @torch.enable_grad()
    def turn(self, scale: float, weigh: Weigh | None) -> tuple[Tensor, Tensor]:
        """The head: (share of the loss, nats of each supervised token), as of `GPT.add_gradients`."""
        model, batch = self._model, self._batch
        last = _leaf(self._borders.get(self._last + 1))
        self._borders.drop(self._last + 1)
        middle = None
        if model.middle is not None:
            middle = _leaf(last.detach() if model.middle == self._last else self._borders.get(model.middle + 1))
        hidden = model.leave(last, middle, batch.wanted)
        loss, gradient, nats = model.head_gradients(hidden.detach()[0], batch, scale, weigh)
        hidden.backward(gradient[None])
        self._gradient = last.grad
        if middle is not None:
            self._middle_gradient = middle.grad
        return loss, nats

    @torch.enable_grad()
    def backward(self, layer: int) -> None:
        """Compute block `layer` again, and its gradients."""
        assert self._gradient is not None
        if layer == self._model.middle:
            assert self._middle_gradient is not None
            self._gradient, self._middle_gradient = self._gradient + self._middle_gradient, None
        x, start = self._leaves(layer)
        self._borders.expect(layer - 1)
        self._through(layer, x, start).backward(self._gradient)
        self._gradient = x.grad
        if start.grad is not None:  # in the order in which one backward pass through all blocks adds them
            self._start_gradient = start.grad if self._start_gradient is None else self._start_gradient.add_(start.grad)
        if layer > 0:
            self._borders.drop(layer)

    @torch.enable_grad()
    def finish(self) -> None:
        """The gradient of the embedding, and of what is mixed there."""
        gradient = self._gradient
        assert gradient is not None
        if self._start_gradient is not None:
            gradient = self._start_gradient.add_(gradient)
        start = self._model.enter(self._batch.ids, self._batch.layout)
        if start.requires_grad:  # not beside an adapter
            start.backward(gradient)
        self._gradient = self._start_gradient = self._start = None

    def _keep(self, layer: int, border: Tensor) -> None:
        if layer == 0:  # every block reads it
            self._start = border
        else:
            self._borders.put(layer, border)

    def _leaves(self, layer: int) -> tuple[Tensor, Tensor]:
        """(what enters block `layer`, what entered the first one), to which autograd gives gradients."""
        assert self._start is not None
        start = _leaf(self._start)
        return (_leaf(self._start) if layer == 0 else _leaf(self._borders.get(layer))), start

    def _through(self, layer: int, x: Tensor, start: Tensor) -> Tensor:
        return self._model.through(layer, x, start, self._batch.ids, self._context, self._batch.wanted)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()
