"""Which memory mode a training takes: the one that was asked for, or the fastest that fits."""

from collections.abc import Sequence

import psutil
import torch

from nanochat_core.compute.devices import all_memory, free_memory
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import MEMORY_MODES, FinetuneConfig
from nanochat_core.memory.plan import Device, plan_memory, training_of
from nanochat_core.memory.tables import gib, verdict
from nanochat_core.model.shape import GPTConfig

OVERHEAD = 1 << 30
"""Bytes that the driver and this process's own context take at most, which the plan counts by itself ("fixed")."""


def choose_memory(
    config: FinetuneConfig, shape: GPTConfig, ranks: Ranks, lengths: Sequence[int]
) -> tuple[str, str | None]:
    """(one of MEMORY_MODES, why it is taken, as a sentence, where there was a choice).

    lengths: the tokens of every conversation of an epoch. A CPU takes plain: its memory is seldom short. An adapter is
    trained so, too, for what is trained of it takes next to nothing.
    """
    if config.memory != "auto":
        return config.memory, None
    if ranks.device.type == "cpu" or config.method == "lora":
        return "plain", None
    # The smallest of all, for every rank has to take the same mode.
    device = min(ranks.gather(_device(ranks.device)), key=lambda one: (one.card_bytes or 0, one.host_bytes or 0))
    plan = plan_memory(training_of(config, shape, ranks.world, lengths), device)
    if plan.chosen is not None:
        need = plan.mode(plan.chosen).need
        return plan.chosen, f"Memory mode {plan.chosen}: {gib(need.card_bytes)} of {plan.device.name} by the plan."
    return MEMORY_MODES[-1], f"{verdict(plan)} It is tried with {MEMORY_MODES[-1]}."


def _device(device: torch.device) -> Device:
    """What the training computes on, as the plan has it."""
    host = psutil.virtual_memory().total
    if device.type != "cuda":
        return Device("this machine's memory", None, host)
    name, whole, free = torch.cuda.get_device_name(device), all_memory(device), free_memory(device)
    if whole - free > OVERHEAD:
        return Device(f"{name}, of whose {gib(whole)} other programs have taken {gib(whole - free)}", free, host)
    return Device(name, whole, host)
