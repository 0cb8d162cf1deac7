"""All weights, gradients and optimizer state on the device.

`checkpointed` computes the blocks again instead of keeping what they leave for their gradients. With several ranks the
gradients of a block are added up over them while those of the blocks below are computed.
"""

import contextlib
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nanochat_core.compute.ranks import Ranks
from nanochat_core.model.batch import Batch
from nanochat_core.model.gpt import GPT, Weigh
from nanochat_core.training.modes.early import Begun, Whole, watched
from nanochat_core.training.modes.mode import Parts, Work, norms_in_order
from nanochat_core.training.modes.passes import HeldBorders, Pass
from nanochat_core.training.modes.sums import Gradients, Sums, Total
from nanochat_core.training.optimizers import steps_device
from nanochat_core.training.units import Unit


class Plain:
    """The memory of gradients is kept for good: on a CPU fresh memory costs more than zeroing."""

    has_all_weights = True

    def __init__(
        self, model: GPT, parts: Parts, optimizers: list[Optimizer], ranks: Ranks, *, checkpointed: bool = False
    ):
        """optimizers: of the parameters that are this rank's."""
        self.name = "checkpointed" if checkpointed else "plain"
        self.parts, self.optimizers = parts, optimizers
        self._model, self._ranks = model, ranks
        self._parameters = {name: parameter for name, parameter in model.named_parameters() if name in parts.rules}
        self._optimizer_of = {
            id(parameter): optimizer
            for optimizer in optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        self._free: list[Gradients] = []
        self._used: list[Gradients] = []
        self._give(self._taken())

    def accumulate(self, work: Work) -> None:
        """Put the gradient of the step into .grad, on the rank that steps the parameter."""
        self._clear()
        sums, begun = work.sums, Begun(self.parts.units, partial(self._across, work.sums))
        begins_early = self._ranks.world > 1 and sums.is_one_part

        def compute(group: int) -> Gradients:
            gradients = self._taken()
            self._give(gradients)
            numbers = sums.groups[group]
            for number in numbers:
                is_last = begins_early and number == numbers[-1]
                whole = partial(begun.reach, [gradients]) if is_last else None
                batch = work.batch(number)
                work.note(number, batch, *add(batch, work.scale, work.weigh(batch), whole))
            return gradients

        is_whole = self.name == "plain"
        add = self._all_blocks if is_whole else self._block_by_block
        with self._model.casts_kept() if is_whole else contextlib.nullcontext():
            parts = sums.here(compute, self._release)
        self._used = parts
        self._ranks.announce()
        for total in begun.end(parts):
            self._give(total)

    def _all_blocks(
        self, batch: Batch, scale: float, weigh: Weigh | None, whole: Whole | None
    ) -> tuple[Tensor, Tensor]:
        """`GPT.add_gradients`, which tells of each block when it is whole."""
        with watched(self._model, whole) if whole else contextlib.nullcontext():
            return self._model.add_gradients(batch, scale, weigh)

    def _block_by_block(
        self, batch: Batch, scale: float, weigh: Weigh | None, whole: Whole | None
    ) -> tuple[Tensor, Tensor]:
        """The same with the borders of the blocks kept alone, and each block cast when it is computed."""
        model = self._model
        way, layers = Pass(model, batch, HeldBorders()), range(model.config.n_layer)
        blocks = model.transformer.blocks
        way.enter()
        for layer in layers:
            with model.casts_kept(blocks[layer]):
                way.forward(layer)
        loss, nats = way.turn(scale, weigh)
        if whole:
            whole(None)
        for layer in reversed(layers):
            with model.casts_kept(blocks[layer]):
                way.backward(layer)
            if whole:
                whole(layer)
        way.finish()
        return loss, nats

    def norms(self) -> list[Tensor]:
        """Of each parameter's gradient."""
        mine = {
            name: torch.linalg.vector_norm(_grad(parameter))
            for name, parameter in self._parameters.items()
            if self.parts.is_mine(name)
        }
        return norms_in_order(self.parts, mine, self._ranks.device)

    def update(self) -> None:
        """Let the optimizers use the gradients, and clear these."""
        for optimizer in self.optimizers:
            optimizer.step()
        self._clear()
        ends = [
            self._ranks.start_handing_out([self._parameters[name].data], owner)
            for name, owner in self.parts.owners.items()
        ]
        for end in ends:
            end()

    def rest(self, name: str) -> None:
        """It stays where it is."""

    def shape(self, name: str) -> torch.Size:
        """Of a parameter."""
        return self._parameters[name].shape

    def weight(self, name: str) -> Tensor:
        """A parameter as it is."""
        return self._parameters[name].detach()

    @torch.no_grad()
    def set_weight(self, name: str, weight: Tensor) -> None:
        """Change a parameter."""
        self._parameters[name].copy_(weight)

    def state(self, name: str) -> dict[str, Tensor]:
        """The optimizer state of a parameter of this rank."""
        return self._state_of(name)

    def set_state(self, name: str, state: dict[str, Tensor]) -> None:
        """Change the optimizer state of a parameter of this rank."""
        device = self._parameters[name].device
        self._state_of(name).update(
            (key, value.to(device if value.ndim else steps_device(device), copy=True)) for key, value in state.items()
        )

    def _across(self, sums: Sums, unit: Unit, parts: list[Gradients]) -> Total:
        """Begin the sum of a unit's gradients in the parts, over all ranks."""
        mine = [{name: part[name] for name in unit.names} for part in parts]
        like = {name: self._parameters[name] for name in unit.names}
        return sums.across(mine, like, self.parts.owners[unit.names[0]])

    def _taken(self) -> Gradients:
        """Gradients of zeros."""
        if self._free:
            return self._free.pop()
        return {name: torch.zeros_like(parameter) for name, parameter in self._parameters.items()}

    def _give(self, gradients: Gradients) -> None:
        for name, gradient in gradients.items():
            self._parameters[name].grad = gradient

    def _release(self, gradients: Gradients) -> None:
        for gradient in gradients.values():
            gradient.zero_()
        self._free.append(gradients)

    def _clear(self) -> None:
        """Forget the gradients of the last step, but for their memory."""
        for gradients in self._used:
            self._release(gradients)
        self._used = []
        if self._free:
            self._give(self._free[-1])

    def _state_of(self, name: str) -> dict[str, Any]:
        parameter = self._parameters[name]
        return self._optimizer_of[id(parameter)].state[parameter]


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None, "each has one from the beginning on"
    return parameter.grad
