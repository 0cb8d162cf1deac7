"""What all ranks hold of a training, brought to the first one by one, the same for every mode and number of ranks."""

from functools import partial

import torch
from torch import Tensor

from nanochat_core.checkpoint.one_by_one import Later
from nanochat_core.compute.ranks import Ranks
from nanochat_core.training.modes.mode import Mode
from nanochat_core.training.optimizers import STATE_KEYS


def weights_to_collect(mode: Mode, ranks: Ranks) -> dict[str, Later]:
    """Every trained parameter in fp32, by name. All ranks make them, in one order; the first alone is given them."""
    return {
        name: Later(mode.shape(name), torch.float32, partial(_weight, mode, ranks, name)) for name in mode.parts.rules
    }


def state_to_collect(mode: Mode, ranks: Ranks) -> dict[str, dict[str, Later]]:
    """Whole optimizer state, by the parameters' names and its own keys. Made as the weights are."""
    return {
        name: {
            key: Later(
                _shape(mode, name, key),
                torch.float32,
                partial(_state, mode, ranks, name, key),
                partial(mode.rest, name),
            )
            for key in STATE_KEYS[rule.optimizer]
        }
        for name, rule in mode.parts.rules.items()
    }


def _weight(mode: Mode, ranks: Ranks, name: str) -> Tensor | None:
    owner = 0 if mode.has_all_weights else mode.parts.owners[name]
    return ranks.hand_to_first(mode.weight(name) if ranks.rank == owner else None, owner, mode.shape(name))


def _state(mode: Mode, ranks: Ranks, name: str, key: str) -> Tensor | None:
    owner = mode.parts.owners[name]
    mine = mode.state(name)[key] if ranks.rank == owner else None
    return ranks.hand_to_first(mine, owner, _shape(mode, name, key))


def _shape(mode: Mode, name: str, key: str) -> torch.Size:
    return torch.Size() if key == "step" else mode.shape(name)
