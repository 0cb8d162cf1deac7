"""Which memory mode a training takes: what each needs, what a card has, and the first that fits.

The modes differ in speed alone, so the first that fits is the one to take.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.memory.counts import SLOTS, Training, adapter_numbers
from nanochat_core.memory.parts import FIXED_CPU, GIB, Need, needs
from nanochat_core.model.shape import GPTConfig
from nanochat_core.system.hardware import Hardware

SPARE = 0.05
"""Share of a memory that is left alone: the allocator's blocks do not lie without gaps. Assumed, not measured."""

_CARD = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:G|GB|GIB)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Device:
    """Where a training is to fit. Bytes; None where it is not known, and then nothing is held against it."""

    name: str
    card_bytes: int | None
    """Memory of the GPU; None for a CPU (and an Apple GPU), which compute in the host's."""
    host_bytes: int | None
    """The host's memory."""
    computes_bf16: bool | None = None
    """Whether a training in bfloat16 is one here; where not, it computes in fp32. None where that is not known."""

    def fits(self, need: Need) -> bool:
        """Whether there is room for `need`, also while it saves."""
        return self.card_fits(need) and _has_room(self.host_needed(need), self.host_bytes)

    def card_fits(self, need: Need) -> bool:
        """Whether there is room on the card."""
        return _has_room(self.split(need)[0], self.card_bytes)

    def host_needed(self, need: Need) -> int:
        """The most of the host's memory. A CPU's tensors are there already when they are saved."""
        return self.split(need)[1] + (need.saving if self.card_bytes is not None else 0)

    def split(self, need: Need) -> tuple[int, int]:
        """(bytes on the card, bytes in the host's memory): all in the latter where there is no card."""
        if self.card_bytes is not None:
            return need.card_bytes, need.host_bytes
        return 0, need.card_bytes - need.card["fixed"] + FIXED_CPU + need.host_bytes


def _has_room(needed: int, there: int | None) -> bool:
    return there is None or needed <= there * (1 - SPARE)


@dataclass(frozen=True)
class PlannedMode:
    """One mode on one card."""

    need: Need
    fits: bool

    def to_json(self) -> dict[str, Any]:
        """As `finetune --plan --json` prints it: `parts` are those of the card, `host_parts` the host's."""
        need = self.need
        return {
            "memory": need.memory,
            "card_bytes": need.card_bytes,
            "host_bytes": need.host_bytes,
            "saving_bytes": need.saving,
            "fits": self.fits,
            "parts": need.card,
            "host_parts": need.host,
        }


@dataclass(frozen=True)
class MemoryPlan:
    """All modes of one training, and the one to take."""

    training: Training
    modes: tuple[PlannedMode, ...]
    device: Device

    @property
    def best(self) -> PlannedMode:
        """The mode to take: the first that fits; else the first that the card has room for, else the least."""
        on_the_card = [mode for mode in self.modes if self.device.card_fits(mode.need)]
        return next((mode for mode in self.modes if mode.fits), (on_the_card or self.modes[-1:])[0])

    @property
    def chosen(self) -> str | None:
        """The first mode that fits, the fastest; None when none does."""
        return next((mode.need.memory for mode in self.modes if mode.fits), None)

    def mode(self, memory: str) -> PlannedMode:
        """The mode of this name."""
        return next(mode for mode in self.modes if mode.need.memory == memory)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        return {
            "modes": [mode.to_json() for mode in self.modes],
            "chosen": self.chosen,
            "tokens_per_step": self.training.step_tokens,
            "device": self.device.name,
        }


def plan_memory(training: Training, device: Device) -> MemoryPlan:
    """What every mode of `training` needs, and which fit `device`."""
    if device.card_bytes is None:
        training = replace(training, padding=0)  # a CPU's attention takes each conversation by itself
    if device.computes_bf16 is False:
        training = replace(training, dtype="float32")
    modes = tuple(PlannedMode(need, device.fits(need)) for need in needs(training))
    return MemoryPlan(training, modes, device)


def this_device(hardware: Hardware, device_type: str = "auto") -> Device:
    """The smallest GPU of this machine, for every one takes the same share; without one the machine's own memory."""
    memory = hardware.memory
    cards = [gpu for gpu in hardware.gpus if gpu.memory] if device_type in ("auto", "cuda") else []
    if not cards:
        return Device("this machine's memory", None, memory)
    least = min(cards, key=lambda gpu: gpu.memory)
    return Device(least.name, least.memory, memory, all(gpu.has_bf16 is not False for gpu in cards))


def named_card(text: str) -> Device:
    """The card that `--card` names, beside a host with room for whatever it is given."""
    bytes_ = parse_card(text)
    return Device(f"a card of {bytes_ / GIB:g} GB", bytes_, None)


def training_of(
    config: FinetuneConfig, shape: GPTConfig, world: int = 1, lengths: Sequence[int] | None = None
) -> Training:
    """The training that `config` asks for on each of `world` devices.

    lengths: the tokens of every conversation of an epoch (Example.inputs). Without them each is taken to be as long as
    max_seq_len allows, which is the most that can come.
    """
    longest = sorted(lengths or [], reverse=True) or [config.max_seq_len] * config.target_examples_per_step
    size = config.device_batch_size
    of_a_step = longest[: config.target_examples_per_step]
    batches = [sum(of_a_step[start : start + size]) for start in range(0, len(of_a_step), size)]
    shares = [0] * world
    for tokens in batches:  # as `data.tokens.plan.shares` deals them out
        shares[shares.index(min(shares))] += tokens
    return Training(
        shape=shape,
        micro_batch_tokens=batches[0],
        step_tokens=max(shares),
        sums=1 + (min(SLOTS, len(batches)) - 1).bit_length() if config.fixed_sums else 1,
        padding=len(of_a_step[:size]) * of_a_step[0] - batches[0],
        dtype=config.dtype,
        world=world,
        adapter=adapter_numbers(shape, config.lora_modules, config.lora_rank) if config.method == "lora" else 0,
    )


def parse_card(text: str) -> int:
    """Bytes of a card named as on its box, `24GB` or `24`. ValueError for anything else.

    Makers count in powers of two: a card of 24 GB has 24 GiB.
    """
    found = _CARD.fullmatch(text)
    if found is None or not 0 < float(found[1]) < 1_000_000:
        raise ValueError(f"--card is '{text:.40}': give the card's memory, such as 24GB.")
    return int(float(found[1]) * GIB)
