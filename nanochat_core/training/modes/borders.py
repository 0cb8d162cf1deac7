"""The borders of a micro-batch's blocks in the host's memory; the one that is needed next is on its way already."""

import torch
from torch import Tensor

from nanochat_core.training.modes.rooms import Room


class RoomBorders:
    """Keeps borders in a room, beside a device.

    The newest border is on the device too, for the block that reads it next; so is the last one, of the few tokens
    that the head computes. On the way back a border comes while the block above is computed.
    """

    def __init__(self, room: Room, device: torch.device, *, is_apart: bool):
        """is_apart: whether the device cannot compute with what lies in the room."""
        self._room, self._device, self._is_apart = room, device, is_apart
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._away: dict[int, Tensor] = {}
        self._here: dict[int, Tensor] = {}

    def put(self, layer: int, border: Tensor) -> None:
        """Keep what enters block `layer`."""
        [away] = self._room.tensors([(border.shape, border.dtype)])
        if self._stream:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            border.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            away.copy_(border, non_blocking=True)
        self._room.rest([away])
        self._away[layer], self._here = away, {layer: border}

    def get(self, layer: int) -> Tensor:
        """What enters block `layer`, on the device."""
        self._fetch(layer)
        if self._stream:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return self._here[layer]

    def expect(self, layer: int) -> None:
        """Block `layer` is computed next."""
        if layer in self._away:
            self._fetch(layer)

    def drop(self, layer: int) -> None:
        """It is not needed again."""
        self._here.pop(layer, None)
        self._room.rest([self._away.pop(layer)])

    def _fetch(self, layer: int) -> None:
        if layer in self._here:
            return
        away = self._away[layer]
        if not self._is_apart:
            self._here[layer] = away
            return
        here = torch.empty(away.shape, dtype=away.dtype, device=self._device)
        if self._stream:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            here.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            self._here[layer] = here.copy_(away, non_blocking=True)
