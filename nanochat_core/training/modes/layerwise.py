"""A step that holds the gradients of one block at a time: the last block is stepped before the one below is computed.

All micro-batches go forward to the head, block by block; then for the head, each block from the last to the first, and
the embedding, all of them compute their gradients, in the order of `plain`, and the part is stepped. A gradient is used
once and forgotten, so accumulation over any number of micro-batches costs no memory but the blocks' borders. That the
gradient is no number shows when all blocks are stepped: the training ends then, as in every mode, and its weights are
of no use; the last checkpoint is whole.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nanochat_core.compute.ranks import Ranks
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import is_table
from nanochat_core.training.modes.mode import Parts, Work, norms_in_order
from nanochat_core.training.modes.passes import Borders, Pass
from nanochat_core.training.modes.staging import Staging
from nanochat_core.training.modes.store import Store
from nanochat_core.training.modes.sums import Gradients, Sums, Total
from nanochat_core.training.symmetric import Buffers
from nanochat_core.training.units import Unit


@dataclass(frozen=True)
class Places:
    """Where things lie between two uses, in which alone the layer-wise modes differ."""

    store: Store
    staging: Staging
    borders: Callable[[], Borders]
    """Makes what keeps the borders of a micro-batch."""
    buffers: Buffers
    """To compute in."""


class Layerwise:
    """The modes layerwise, offloaded and offloaded_all."""

    has_all_weights = False

    def __init__(self, name: str, model: GPT, parts: Parts, ranks: Ranks, places: Places):
        self.name, self.parts = name, parts
        self._model, self._ranks, self._places = model, ranks, places
        self._store, self._staging = places.store, places.staging
        self._parameters = {name: parameter for name, parameter in model.named_parameters() if name in parts.rules}
        self._gradients = _Memory(self._parameters)
        self._scalar_names = [name for name in parts.units[-1].names if not is_table(name)]
        self._scalars: list[Gradients] = []
        self._loads = [load for unit in parts.units for load in self._store.loads(unit)]
        self.optimizers = [optimizer for load in self._loads for optimizer in load.optimizers]
        self._norms: dict[str, Tensor] = {}
        self._pending: list[Callable[[], None]] = []
        """Units that are computed and not yet stepped."""
        self._handing_out: list[Callable[[], None]] = []

    def accumulate(self, work: Work) -> None:
        """Compute the gradients and step every part as soon as its gradient is there."""
        self._norms = {}
        self._staging.begin(self._loads)
        groups = work.sums.groups
        batches = {number: work.batch(number) for group in groups for number in group}
        passes = {number: Pass(self._model, batch, self._places.borders()) for number, batch in batches.items()}
        for each in passes.values():
            each.enter()
        for layer in range(self._model.config.n_layer):
            for each in passes.values():
                each.forward(layer)
        self._scalars = [self._gradients.zeros(self._scalar_names) for _ in groups]  # every block has a share in them

        def turn(number: int) -> None:
            batch = batches[number]
            work.note(number, batch, *passes[number].turn(work.scale, work.weigh(batch)))

        head, *blocks, rest = self.parts.units
        self._step(head, work.sums, turn)
        for unit in blocks:
            assert unit.layer is not None
            self._step(unit, work.sums, partial(_backward, passes, unit.layer))
        self._step(rest, work.sums, lambda number: passes[number].finish())
        while self._pending:
            self._pending.pop(0)()
        while self._handing_out:
            self._handing_out.pop()()

    def norms(self) -> list[Tensor]:
        """Of each parameter's gradient."""
        return norms_in_order(self.parts, self._norms, self._ranks.device)

    def update(self) -> None:
        """Everything is stepped already."""

    def rest(self, name: str) -> None:
        """A parameter's state is not used for a while."""
        self._store.rest(name)

    def shape(self, name: str) -> torch.Size:
        """Of a parameter."""
        return self._parameters[name].shape

    def weight(self, name: str) -> Tensor:
        """A parameter of this rank as it is, in fp32."""
        self._staging.settle()
        return self._store.weight(name)

    def set_weight(self, name: str, weight: Tensor) -> None:
        """Change a parameter."""
        self._staging.settle()
        self._store.set_weight(name, weight)

    def state(self, name: str) -> dict[str, Tensor]:
        """The optimizer state of a parameter of this rank."""
        self._staging.settle()
        return self._store.state(name)

    def set_state(self, name: str, state: dict[str, Tensor]) -> None:
        """Change the optimizer state of a parameter of this rank."""
        self._staging.settle()
        self._store.set_state(name, state)

    def _step(self, unit: Unit, sums: Sums, add: Callable[[int], None]) -> None:
        """Let all micro-batches, by number, add to the gradients of a unit; then step it, or with ranks soon after."""

        def compute(group: int) -> Gradients:
            gradients = {**self._gradients.zeros(name for name in unit.names if name not in self._scalar_names)}
            self._gradients.give({**gradients, **self._scalars[group]})
            for number in sums.groups[group]:
                add(number)
            self._gradients.give(dict.fromkeys([*gradients, *self._scalar_names]))
            every = {**gradients, **self._scalars[group]}
            return {name: every[name] for name in unit.names}

        parts = sums.here(compute, self._gradients.release)
        if unit.names:
            owner = self.parts.owners[unit.names[0]]
            total = sums.across(parts, {name: self._parameters[name] for name in unit.names}, owner)
            self._pending.append(partial(self._finish, unit, owner, parts, total))
        while len(self._pending) > (self._ranks.world > 1):  # several ranks: while the next unit is computed
            self._pending.pop(0)()

    def _finish(self, unit: Unit, owner: int, parts: list[Gradients], total: Total) -> None:
        """Step a unit on its rank, once the gradients of all ranks are there, and hand its weights out."""
        self._ranks.announce()
        found = total()
        if found is not None:
            self._norms.update((name, torch.linalg.vector_norm(gradient)) for name, gradient in found.items())
            for load in self._store.loads(unit):
                load.step(found, self._staging.take(), self._places.buffers)
                self._staging.give_back()
        for part in parts:
            self._gradients.release(part)
        self._handing_out.append(self._ranks.start_handing_out(self._store.shared(unit), owner))


def _backward(passes: dict[int, Pass], layer: int, number: int) -> None:
    passes[number].backward(layer)


class _Memory:
    """For the gradients of the part that is computed, kept from one part to the next of the same shapes."""

    def __init__(self, parameters: dict[str, nn.Parameter]):
        self._parameters = parameters
        self._free: dict[torch.Size, list[Tensor]] = {}

    def zeros(self, names: Iterable[str]) -> Gradients:
        """Gradients of zeros for these parameters."""
        return {name: self._one(self._parameters[name]) for name in names}

    def give(self, gradients: Mapping[str, Tensor | None]) -> None:
        """Let the parameters have these gradients, or none."""
        for name, gradient in gradients.items():
            self._parameters[name].grad = gradient

    def release(self, gradients: Gradients) -> None:
        """They are not needed any more."""
        for gradient in gradients.values():
            self._free.setdefault(gradient.shape, []).append(gradient)

    def _one(self, parameter: nn.Parameter) -> Tensor:
        free = self._free.get(parameter.shape)
        return free.pop().zero_() if free else torch.zeros(parameter.shape, device=parameter.device)
