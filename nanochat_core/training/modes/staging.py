"""What lies in a room comes to the device for its step and goes back: while one load is stepped, the next one comes."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from nanochat_core.training.modes.rooms import Room
from nanochat_core.training.modes.store import Load

Rests = list[dict[str, Tensor]]
_ALIGNED = 256
"""Bytes: tensors in a buffer begin at a multiple, as the allocator's own do."""


class Staging(Protocol):
    """Hands out the loads of a step one after the other."""

    def begin(self, loads: Sequence[Load]) -> None:
        """A step begins, which takes these loads in this order."""

    def take(self) -> Rests:
        """The rests of the next load, on the device."""

    def give_back(self) -> None:
        """The load that was taken last has changed, and is not used again in this step."""

    def settle(self) -> None:
        """Return when everything is in its room."""


class InPlace:
    """For a room that is the device's own memory."""

    def __init__(self, room: Room):
        self._room = room
        self._loads: list[Load] = []

    def begin(self, loads: Sequence[Load]) -> None:
        """A step begins, which takes these loads in this order."""
        self._loads = list(reversed(loads))

    def take(self) -> Rests:
        """The rests of the next load."""
        return self._loads[-1].rests

    def give_back(self) -> None:
        """Its room may do as it likes with it."""
        self._room.rest(tensor for rest in self._loads.pop().rests for tensor in rest.values())

    def settle(self) -> None:
        """There is nothing to be done."""


class Copied:
    """For a room in the host's memory: two buffers on the device, and copies beside the computation.

    The copies follow each other on a stream of their own: a buffer's content goes back before the next comes into it.
    """

    def __init__(self, device: torch.device, loads: Sequence[Load]):
        """loads: all that there are."""
        size = max((sum(_room_for(t) for rest in load.rests for t in rest.values()) for load in loads), default=0)
        self._buffers = [torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2)]
        self._clock = _Clock(device)
        self._loads: list[Load] = []
        self._views: list[Rests] = [[], []]
        self._taken = 0

    def begin(self, loads: Sequence[Load]) -> None:
        """A step begins: the first two loads come."""
        self._loads, self._taken = list(loads), 0
        for number in range(2):
            self._fetch(number)

    def take(self) -> Rests:
        """The rests of the next load, on the device."""
        self._clock.wait_for_copies(self._taken % 2)
        return self._views[self._taken % 2]

    def give_back(self) -> None:
        """It goes back, and the load after the next one comes in its place."""
        self._clock.let_copies_wait()
        with self._clock.beside():
            for rest, staged in zip(self._loads[self._taken].rests, self._views[self._taken % 2]):
                for key, tensor in rest.items():
                    tensor.copy_(staged[key], non_blocking=True)
        self._taken += 1
        self._fetch(self._taken + 1)

    def settle(self) -> None:
        """Return when everything is in its room."""
        self._clock.settle()

    def _fetch(self, number: int) -> None:
        if number >= len(self._loads):
            return
        buffer, at = self._buffers[number % 2], 0
        views: Rests = []
        with self._clock.beside():
            for rest in self._loads[number].rests:
                views.append({})
                for key, tensor in rest.items():
                    view = buffer[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
                    views[-1][key] = view.copy_(tensor, non_blocking=True)
                    at += _room_for(tensor)
            self._clock.note_copies(number % 2)
        self._views[number % 2] = views


class _Clock:
    """The order of computation and copies: on CUDA a stream for the copies, elsewhere one after the other."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._arrived = [torch.cuda.Event() for _ in range(2)] if self._stream else []

    def beside(self) -> torch.cuda.StreamContext:
        """In the block copies are put on their own stream."""
        return torch.cuda.stream(self._stream)  # None: it changes nothing

    def note_copies(self, buffer: int) -> None:
        """The copies so far fill this buffer."""
        if self._stream:
            self._arrived[buffer].record(self._stream)

    def wait_for_copies(self, buffer: int) -> None:
        """The computation goes on when that is so; the host does not wait."""
        if self._stream:
            torch.cuda.current_stream(self._device).wait_event(self._arrived[buffer])

    def let_copies_wait(self) -> None:
        """The copies that follow begin when the computation has come so far."""
        if self._stream:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def settle(self) -> None:
        """Wait on the host for all copies."""
        if self._stream:
            self._stream.synchronize()


def _room_for(tensor: Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNED) * _ALIGNED
