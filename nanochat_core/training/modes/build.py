"""The memory mode of a training, by its name."""

from pathlib import Path

import torch

from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import MEMORY_MODES, FinetuneConfig
from nanochat_core.model.gpt import GPT
from nanochat_core.training.modes.borders import RoomBorders
from nanochat_core.training.modes.layerwise import Layerwise, Places
from nanochat_core.training.modes.mode import Mode, Parts
from nanochat_core.training.modes.passes import Borders, HeldBorders
from nanochat_core.training.modes.plain import Plain
from nanochat_core.training.modes.rooms import DeviceRoom, host_room
from nanochat_core.training.modes.staging import Copied, InPlace, Staging
from nanochat_core.training.modes.store import Store
from nanochat_core.training.optimizers import build_optimizers, recipe
from nanochat_core.training.symmetric import Buffers


def build_mode(name: str, model: GPT, config: FinetuneConfig, ranks: Ranks, folder: Path | None = None) -> Mode:
    """The mode `name` of MEMORY_MODES for the training of `model` by `config`.

    The layer-wise modes take the weights to the ranks' device themselves, so that it never holds them all in fp32.
    folder: where a CPU keeps what is in the host's memory elsewhere.
    """
    assert name in MEMORY_MODES, name
    parts = Parts.of(model, recipe(model, config), ranks)
    if name in ("plain", "checkpointed"):
        mine = [each for each in parts.rules if parts.is_mine(each)]
        optimizers = build_optimizers(model, config, mine)
        return Plain(model, parts, optimizers, ranks, checkpointed=name == "checkpointed")
    device, buffers = ranks.device, Buffers()
    host = host_room(device, folder)
    room = DeviceRoom(device) if name == "layerwise" else host
    store = Store(model, parts, room, device, buffers)
    loads = [load for unit in parts.units for load in store.loads(unit)]
    is_apart = _has_memory_of_its_own(device)
    staging: Staging = Copied(device, loads) if is_apart and name != "layerwise" else InPlace(room)

    def borders() -> Borders:
        return RoomBorders(host, device, is_apart=is_apart) if name == "offloaded_all" else HeldBorders()

    return Layerwise(name, model, parts, ranks, Places(store, staging, borders, buffers))


def _has_memory_of_its_own(device: torch.device) -> bool:
    return device.type != "cpu"
