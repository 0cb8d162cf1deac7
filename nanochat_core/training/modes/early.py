"""Sums over all ranks that begin while the gradients of lower blocks are still computed.

Every rank begins them in the order of the units, whatever it has to compute: libraries match what ranks send by that
order alone. A rank without a micro-batch begins them all at once.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from nanochat_core.model.gpt import GPT
from nanochat_core.training.modes.sums import Gradients, Total
from nanochat_core.training.units import Unit

Whole = Callable[[int | None], None]
"""Called on the way back as soon as the gradients of a block are whole, by its layer; None for the head's."""


class Begun:
    """The sums of a step: what has begun, and what is left."""

    def __init__(self, units: Sequence[Unit], begin: Callable[[Unit, list[Gradients]], Total]):
        """begin: the sum of a unit, from this rank's parts of it."""
        self._left, self._begin = [unit for unit in units if unit.names], begin
        self._totals: list[Total] = []

    def reach(self, parts: list[Gradients], layer: int | None) -> None:
        """The way back has come to the input of block `layer`, or with None past the head: what is above is whole."""
        while self._left and self._left[0].is_above(layer):
            self._begin_next(parts)

    def end(self, parts: list[Gradients]) -> list[Gradients]:
        """Begin what is left, and end all; the sums that are for this rank."""
        while self._left:
            self._begin_next(parts)
        return [found for total in self._totals if (found := total()) is not None]

    def _begin_next(self, parts: list[Gradients]) -> None:
        self._totals.append(self._begin(self._left.pop(0), parts))


@contextlib.contextmanager
def watched(model: GPT, whole: Whole) -> Iterator[None]:
    """In the block, the way back through what goes forward through the model calls `whole`.

    The gradients of a block's matrices are added where they belong by functions that hand autograd none of them, so
    hooks of parameters would not be called. The gradient of what enters the block is made last: autograd computes what
    came later in the forward pass first, so everything of the block is done when it has that one, its table of value
    embeddings, too.
    """
    blocks = model.transformer.blocks

    def entered(layer: int, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        _when_known(inputs[0], partial(whole, layer))

    def left(block: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        _when_known(output, partial(whole, None))

    hooks = [block.register_forward_pre_hook(partial(entered, layer)) for layer, block in enumerate(blocks)]
    hooks.append(blocks[-1].register_forward_hook(left))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _when_known(tensor: Tensor, call: Callable[[], None]) -> None:
    """Call it when the gradient of `tensor` is known; what enters the first block beside an adapter has none."""
    if tensor.requires_grad:
        tensor.register_hook(lambda _: call())
