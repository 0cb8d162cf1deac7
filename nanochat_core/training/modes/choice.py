"""Which memory mode a training takes: the one that was asked for, or the fastest that fits."""

import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from nanochat_core.compute.devices import all_memory, choose_compute_dtype, free_memory
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.memory.plan import Device, plan_memory, training_of
from nanochat_core.memory.tables import gib, verdict
from nanochat_core.model.shape import GPTConfig
from nanochat_core.system.hardware import find_hardware

OVERHEAD = 1 << 30
"""Bytes that the driver and this process's own context take at most, which the plan counts by itself ("fixed")."""


def choose_memory(
    config: FinetuneConfig, shape: GPTConfig, ranks: Ranks, lengths: Sequence[int]
) -> tuple[str, str | None]:
    """(one of MEMORY_MODES, why it is taken, as a sentence, where there was a choice).

    lengths: the tokens of every conversation that may be trained on. A CPU takes plain: its memory is seldom short. An
    adapter is trained so, too, for what is trained of it takes next to nothing.
    """
    if config.memory != "auto":
        return config.memory, None
    if ranks.device.type == "cpu" or config.method == "lora":
        return "plain", None
    plan = plan_memory(training_of(config, shape, ranks.world, lengths), least_of(ranks.gather(_device(ranks.device))))
    memory = plan.best.need.memory
    if plan.best.fits:
        return memory, f"Memory mode {memory}: {gib(plan.best.need.card_bytes)} of {plan.device.name} by the plan."
    return memory, f"{verdict(plan)} It is tried with {memory}."


def least_of(devices: Sequence[Device]) -> Device:
    """What every rank can count on: all of them have to take the same mode."""
    hosts = [one.host_bytes for one in devices if one.host_bytes is not None]
    return replace(
        min(devices, key=lambda one: one.card_bytes or 0),
        host_bytes=min(hosts, default=None),
        computes_bf16=all(one.computes_bf16 is not False for one in devices),
    )


def _device(device: torch.device) -> Device:
    """What the training computes on, as the plan has it; of the host's memory the share of one of its processes."""
    host = find_hardware().memory // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type != "cuda":
        return Device("this machine's memory", None, host)
    has_bf16 = choose_compute_dtype("bfloat16", device) == torch.bfloat16
    name, whole, free = torch.cuda.get_device_name(device), all_memory(device), free_memory(device)
    if whole - free > OVERHEAD:
        name, whole = f"{name}, of whose {gib(whole)} other programs have taken {gib(whole - free)}", free
    return Device(name, whole, host, has_bf16)
