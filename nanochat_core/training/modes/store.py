"""What the layer-wise modes keep between two uses: each weight's halves and its optimizer's state, in a room.

A matrix is stepped as a whole, a table some rows at a time, so that what has to be on the device for it stays small.
Where the computation is in fp32 the weights stay whole, as it reads them; so do the few of sizes that are no multiple
of 8, for they take no memory to speak of.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from nanochat_core.compute.huge_pages import forget_pages
from nanochat_core.model.blocks import Embedding, Linear
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import is_table
from nanochat_core.training.modes.halves import join, split
from nanochat_core.training.modes.mode import Parts
from nanochat_core.training.modes.rooms import Room, Spec
from nanochat_core.training.optimizers import STATE_KEYS, Rule, optimizers_for, steps_device
from nanochat_core.training.symmetric import Buffers
from nanochat_core.training.units import Unit

_ADAM_TO_MUON = 0.6
"""Numbers of a table that take as much memory beside their weights as one number of a matrix."""


@dataclass(frozen=True)
class Piece:
    """A matrix, or some rows of a table: what is stepped at once."""

    name: str
    rows: slice
    rule: Rule
    parameter: nn.Parameter
    """As its optimizer knows it. Without memory of its own where there are halves."""
    high: Tensor | None
    """The bf16 half, on the device; None for a weight that is whole."""
    rest: dict[str, Tensor]
    """low and ties where there is a high half, and the optimizer's state but for its count of steps: in the room."""


@dataclass(frozen=True)
class Load:
    """Pieces that are on the device, and stepped, at the same time."""

    pieces: list[Piece]
    optimizers: list[Optimizer]

    @property
    def rests(self) -> list[dict[str, Tensor]]:
        return [piece.rest for piece in self.pieces]

    def step(self, gradients: dict[str, Tensor], rests: list[dict[str, Tensor]], buffers: Buffers) -> None:
        """Let the gradients, of whole parameters by name, change the pieces. rests: theirs, on the device."""
        for number, (piece, rest) in enumerate(zip(self.pieces, rests)):
            parameter = piece.parameter
            if piece.high is not None:
                shape, device = piece.high.shape, piece.high.device
                whole = buffers.take(f"weight {number}", shape, torch.float32, device)
                parameter.data = join(piece.high, rest["low"], rest["ties"], whole)
            parameter.grad = gradients[piece.name][piece.rows]
            self._state(piece).update((key, rest[key]) for key in STATE_KEYS[piece.rule.optimizer] if key != "step")
        for optimizer in self.optimizers:
            optimizer.step()
        for piece, rest in zip(self.pieces, rests):
            piece.parameter.grad = None
            if piece.high is not None:
                split(piece.parameter.data, piece.high, rest["low"], rest["ties"])
                piece.parameter.data = nothing(piece.high.shape, piece.high.device)

    def _state(self, piece: Piece) -> dict[str, Tensor]:
        return next(o for o in self.optimizers if isinstance(o, piece.rule.optimizer)).state[piece.parameter]


@dataclass
class _Held:
    """A parameter of this rank."""

    module: Linear | Embedding | None
    """Which computes with it; None for scalars."""
    parameter: nn.Parameter
    has_halves: bool
    rest: dict[str, Tensor] = field(default_factory=dict)
    """As of Piece, of the whole parameter."""


class Store:
    """The trained parameters of a model, from which it then computes, and the optimizer state of this rank's."""

    def __init__(self, model: GPT, parts: Parts, room: Room, device: torch.device, buffers: Buffers):
        """Takes the model's weights, from wherever they are, to `device` and `room`. buffers: of the optimizers."""
        self._model, self._parts, self._room, self._device = model, parts, room, device
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        modules = {names[id(m.weight)]: m for m in model.modules() if isinstance(m, Linear | Embedding)}
        self._held = {
            name: _Held(modules.get(name), parameter, self._splits(name, parameter, modules))
            for name, parameter in model.named_parameters()
            if name in parts.rules
        }
        for name, parameter in model.named_parameters():
            if name not in parts.rules:
                parameter.data = parameter.data.to(device)
        self._place_rests()
        for name, held in self._held.items():
            self._place(name, held)
        blocks = [unit for unit in parts.units if unit.layer is not None]
        largest = max((self._matrices_of(unit) for unit in blocks), default=0)
        self._loads = {unit: list(self._loads_of(unit, int(_ADAM_TO_MUON * largest), buffers)) for unit in parts.units}

    def loads(self, unit: Unit) -> list[Load]:
        """The pieces of a unit that are this rank's, in the order in which they are stepped."""
        return self._loads[unit]

    def shared(self, unit: Unit) -> Iterator[Tensor]:
        """What the computation reads of a unit's parameters, on every rank."""
        for name in unit.names:
            held = self._held[name]
            yield held.parameter.data if not held.has_halves else _high(held)

    def weight(self, name: str) -> Tensor:
        """A parameter of this rank as it is, in fp32, in host memory where it has halves."""
        held = self._held[name]
        if not held.has_halves:
            return held.parameter.detach()
        where = torch.device("meta" if self._device.type == "meta" else "cpu")
        low, ties, high = held.rest["low"].to(where), held.rest["ties"].to(where), _high(held).to(where)
        whole = join(high, low, ties, torch.empty(held.parameter.shape, device=where))
        self._room.rest(held.rest.values())
        return whole

    def rest(self, name: str) -> None:
        """What the room has of a parameter is not used for a while."""
        self._room.rest(self._held[name].rest.values())

    @torch.no_grad()
    def set_weight(self, name: str, weight: Tensor) -> None:
        """Change a parameter."""
        held = self._held[name]
        if not held.has_halves:
            held.parameter.data.copy_(weight)
        elif not self._parts.is_mine(name):
            _high(held).copy_(weight)
        else:
            low, ties = held.rest["low"], held.rest["ties"]
            here = weight.to(low.device, torch.float32).contiguous()
            high = _high(held)
            there = high if high.device == here.device else torch.empty_like(high, device=here.device)
            split(here, there, low, ties)
            if there is not high:
                high.copy_(there)
            self._room.rest([low, ties])

    def state(self, name: str) -> dict[str, Tensor]:
        """The optimizer state of a parameter of this rank."""
        keys, held = STATE_KEYS[self._parts.rules[name].optimizer], self._held[name]
        return {key: self._steps(name)[0] if key == "step" else held.rest[key] for key in keys}

    def set_state(self, name: str, state: dict[str, Tensor]) -> None:
        """Change the optimizer state of a parameter of this rank."""
        held = self._held[name]
        for key, value in state.items():
            for mine in self._steps(name) if key == "step" else [held.rest[key]]:
                mine.copy_(value)
        self._room.rest(held.rest.values())

    def _matrices_of(self, unit: Unit) -> int:
        """Numbers of a unit beside its tables, which come in pieces."""
        names = (name for name in unit.names if name in self._held and not is_table(name))
        return sum(self._held[name].parameter.numel() for name in names)

    def _splits(self, name: str, parameter: nn.Parameter, modules: dict[str, Linear | Embedding]) -> bool:
        return self._model.compute_dtype == torch.bfloat16 and name in modules and parameter.numel() % 8 == 0

    def _place_rests(self) -> None:
        """Ask the room for everything at once: it may be one file."""
        wanted: list[tuple[str, str, Spec]] = []
        for name, held in self._held.items():
            if not self._parts.is_mine(name):
                continue
            shape, rule = held.parameter.shape, self._parts.rules[name]
            if held.has_halves:
                wanted.append((name, "low", (shape, torch.int16)))
                wanted.append((name, "ties", ((held.parameter.numel() // 8,), torch.uint8)))
            keys = [key for key in STATE_KEYS[rule.optimizer] if key != "step"]
            wanted += [(name, key, (shape, torch.float32)) for key in keys]
        tensors = self._room.tensors([spec for _, _, spec in wanted])
        for (name, key, _), tensor in zip(wanted, tensors):
            self._held[name].rest[key] = tensor

    def _place(self, name: str, held: _Held) -> None:
        """The weight to the device, or its halves to where each belongs; nothing is left of it elsewhere."""
        parameter, device = held.parameter, self._device
        if not held.has_halves:
            parameter.data = parameter.data.to(device)
            return
        assert held.module is not None
        whole, parameter.data = parameter.data, nothing(parameter.shape, device)
        held.module.kept = torch.empty(whole.shape, dtype=torch.bfloat16, device=device)
        self.set_weight(name, whole)
        if whole.device.type == "cpu":
            forget_pages(whole)  # mapped from a file, most likely: all of them together would be as much as is saved

    def _loads_of(self, unit: Unit, most: int, buffers: Buffers) -> Iterator[Load]:
        """A load of everything but the tables, which have loads of at most `most` numbers each."""
        together, apart = [], []
        for name in unit.names:
            if not self._parts.is_mine(name):
                continue
            rule, shape = self._parts.rules[name], self._held[name].parameter.shape
            if rule.optimizer is AdamW and len(shape) == 2:
                rows = max(8, most // shape[1] // 8 * 8)
                apart += [self._piece(name, rule, slice(at, at + rows)) for at in range(0, shape[0], rows)]
            else:
                together.append(self._piece(name, rule, slice(None)))
        for pieces in ([together] if together else []) + [[piece] for piece in apart]:
            members = [(piece.rule, piece.parameter, "") for piece in pieces]
            load = Load(pieces, optimizers_for(members, buffers))
            for piece in pieces:
                self._begin(load, piece)
            yield load

    def _piece(self, name: str, rule: Rule, rows: slice) -> Piece:
        held = self._held[name]
        high = _high(held)[rows] if held.has_halves else None
        data = held.parameter.data[rows] if high is None else nothing(high.shape, high.device)
        width = held.parameter[0].numel() if held.parameter.ndim > 1 else 1
        eighths = slice(None) if rows == slice(None) else slice(rows.start * width // 8, rows.stop * width // 8)
        rest = {key: tensor[eighths if key == "ties" else rows] for key, tensor in held.rest.items()}
        return Piece(name, rows, rule, nn.Parameter(data), high, rest)

    def _begin(self, load: Load, piece: Piece) -> None:
        """The state that the optimizer would make at its first step, with the room's memory in the place of its own."""
        state = load._state(piece)
        if "step" in STATE_KEYS[piece.rule.optimizer]:
            state["step"] = torch.zeros((), dtype=torch.float32, device=steps_device(self._device))

    def _steps(self, name: str) -> list[Tensor]:
        """The counts of all pieces of a parameter: the same number."""
        return [
            load._state(piece)["step"]
            for loads in self._loads.values()
            for load in loads
            for piece in load.pieces
            if piece.name == name
        ]


def nothing(shape: torch.Size, device: torch.device) -> Tensor:
    """A tensor of this shape with the memory of one number: in the place of a weight that nobody may read."""
    return torch.full((), float("nan"), device=device).expand(shape)


def _high(held: _Held) -> Tensor:
    assert held.module is not None
    assert held.module.kept is not None
    return held.module.kept
