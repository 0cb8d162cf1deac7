"""What all ranks hold of a training, brought together on the first, in one form for every mode and number of ranks."""

from torch import Tensor

from nanochat_core.compute.ranks import Ranks
from nanochat_core.training.modes.mode import Mode
from nanochat_core.training.optimizers import STATE_KEYS, State


def collect_weights(mode: Mode, ranks: Ranks) -> dict[str, Tensor]:
    """Every trained parameter in fp32, by name, in host memory; empty on the other ranks. Called by all ranks."""
    found = {}
    for name in mode.parts.rules:
        owner = 0 if mode.has_all_weights else mode.parts.owners[name]
        mine = mode.weight(name) if ranks.rank == owner else None
        weight = ranks.hand_to_first(mine, owner, mode.shape(name))
        if weight is not None:
            found[name] = weight
    return found


def collect_state(mode: Mode, ranks: Ranks) -> State | None:
    """Whole optimizer state, by the parameters' names, in host memory; None on the other ranks. Called by all ranks."""
    found: State = {}
    for name, rule in mode.parts.rules.items():
        owner = mode.parts.owners[name]
        mine = mode.state(name) if ranks.rank == owner else {}
        values = {
            key: ranks.hand_to_first(mine.get(key), owner, () if key == "step" else mode.shape(name))
            for key in STATE_KEYS[rule.optimizer]
        }
        found[name] = {key: value for key, value in values.items() if value is not None}
    return found if ranks.is_first else None
