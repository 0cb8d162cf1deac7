"""The processes that train together, and the device of each: from torchrun's environment to sums over all ranks."""

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from nanochat_core.compute.devices import choose_device
from nanochat_core.runs.nodes import START_VARIABLE, node_of, rank_of
from nanochat_core.runs.torchrun import table_at

WAIT_FOR_OTHERS = timedelta(minutes=30)
"""Rank 0 may ask questions or write a large checkpoint while the others wait."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among `world` processes, and the device it computes on."""

    rank: int
    world: int
    device: torch.device
    node: int = 0
    """Which of several machines this process is on; the first rank is on machine 0."""
    before_waiting: list[Callable[[], Any]] = field(default_factory=list, compare=False)
    """Called before this rank waits for the others, so that one can tell who holds up the rest."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Iterable[float]) -> list[float]:
        """Each value summed over all ranks, in float64 (float32 on devices without it)."""
        values = list(values)
        if self.world == 1:
            return values
        self.announce()
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        tensor = torch.tensor(values, dtype=dtype, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def start_sum(self, tensors: Iterable[torch.Tensor], owner: int) -> Callable[[], None]:
        """Begin to replace each tensor, on rank `owner`, by its sum over all ranks; what is returned ends it.

        All ranks pass the same ones. On the others they hold nothing of use afterwards.
        """
        if self.world == 1:
            return lambda: None
        return _ending([dist.reduce(tensor, owner, async_op=True) for tensor in tensors])

    def pass_on(self, tensors: Sequence[torch.Tensor], source: int | None, target: int) -> None:
        """Copy the tensors of rank `source` into those of rank `target`. Both call it, and others may."""
        for tensor in tensors:
            if self.rank == source:
                dist.send(tensor, target)
            elif self.rank == target:
                dist.recv(tensor, source)

    def start_handing_out(self, tensors: Iterable[torch.Tensor], owner: int) -> Callable[[], None]:
        """Begin to replace each tensor by that of rank `owner`; what is returned ends it. All ranks pass the same."""
        if self.world == 1:
            return lambda: None
        return _ending([dist.broadcast(tensor, owner, async_op=True) for tensor in tensors])

    def hand_to_first(self, tensor: torch.Tensor | None, owner: int, shape: Sequence[int]) -> torch.Tensor | None:
        """`owner`'s fp32 tensor of this shape, in rank 0's host memory; None on the other ranks.

        Tensor by tensor: to pickle a rank's whole share into one list of bytes runs at a few megabytes per second.
        """
        if owner != 0 and self.rank == owner:
            assert tensor is not None
            dist.send(tensor.to(self._transport).reshape(-1), 0)
        elif owner != 0 and self.rank == 0:
            tensor = torch.empty(math.prod(shape), device=self._transport)
            dist.recv(tensor, owner)
            tensor = tensor.view(tuple(shape))
        return tensor.detach().cpu() if self.rank == 0 and tensor is not None else None

    @property
    def _transport(self) -> torch.device:
        """Where tensors lie that are sent from rank to rank."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replace `tensor`, on this rank's device, by its sum over all ranks, without waiting for the device."""
        if self.world > 1:
            dist.all_reduce(tensor)

    def same_for_all(self, text: str | None) -> str | None:
        """Rank 0's `text`, on every rank."""
        if self.world == 1:
            return text
        self.announce()
        texts = [text]
        dist.broadcast_object_list(texts, 0)
        return texts[0]

    def gather(self, value: Any) -> list[Any]:
        """The `value` of each rank, in their order, on every rank."""
        values = [value] * self.world
        if self.world > 1:
            self.announce()
            dist.all_gather_object(values, value)
        return values

    def every(self, text: str) -> list[str]:
        """The `text` of every rank, in their order."""
        if self.world == 1:
            return [text]
        self.announce()
        texts: list[Any] = [None] * self.world
        dist.all_gather_object(texts, text)
        return texts

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """A ValueError of one rank within the block, in which none waits for another, is then raised on every rank."""
        mistake = ""
        try:
            yield
        except ValueError as error:
            if self.world == 1:
                raise
            mistake = str(error)
        if found := next(filter(None, self.every(mistake)), None):
            raise ValueError(found)

    def announce(self) -> None:
        """This rank is about to wait for the others."""
        for call in self.before_waiting:
            call()

    def wait(self) -> None:
        """Return when every rank is here."""
        if self.world > 1:
            self.sum([0.0])


def _ending(works: list[Any]) -> Callable[[], None]:
    def end() -> None:
        for work in works:
            work.wait()

    return end


@contextlib.contextmanager
def joined_ranks(device_type: str) -> Iterator[Ranks]:
    """This process's Ranks by torchrun's environment variables (a single rank without them), joined for the block."""
    rank, world = rank_of(os.environ), int(os.environ.get("WORLD_SIZE", "1"))
    node = node_of(os.environ)
    if node is not None:
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        if world % here or node >= world // here:
            raise ValueError("Start the same number of processes (--nproc) on every machine.")
    device = choose_device(device_type, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world == 1:
        yield Ranks(rank, world, device)
        return
    if device.type == "mps":
        raise ValueError(f"{world} processes cannot share this machine's one mps device. Use 1 process.")
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = None
    if node is not None:
        port = int(os.environ["MASTER_PORT"])
        store = table_at(os.environ["MASTER_ADDR"], port, os.environ[START_VARIABLE])
    dist.init_process_group(backend, timeout=WAIT_FOR_OTHERS, rank=rank, world_size=world, store=store)
    yield Ranks(rank, world, device, node or 0)
    # Not after an exception: destroying waits for the others, who wait for this rank in a collective.
    dist.destroy_process_group()
