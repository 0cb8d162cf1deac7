"""Whether a model may be loaded before anyone asks it: only where it leaves others the memory that they need."""

import psutil

from nanochat_core.paths import find_model
from nanochat_core.system.hardware import find_hardware
from studio.runs import launching

PROCESS_BYTES = 700_000_000
"""What a process with torch takes before it holds a model; measured at 450 MB on a CPU, more where there is a GPU."""
_SHARE = 0.5
"""Of what is free now."""


def hindrance(name: str, step: int) -> str:
    """Why the model is not loaded ahead, to be said after "because"; "" where it can be. ValueError without the model.

    Its file's size, twice, is what loading takes at most: the weights as read, and in another dtype.
    """
    weights = 2 * find_model(name, step).weights.stat().st_size
    if weights + PROCESS_BYTES > _SHARE * psutil.virtual_memory().available:
        return "it would take more than half of the free memory"
    gpus = find_hardware().gpus
    if gpus and launching.active_run() is not None:
        return "a training needs the GPU's memory"
    if gpus and gpus[0].memory and weights > _SHARE * (gpus[0].memory - gpus[0].used):
        return "it would take more than half of the GPU's free memory"
    return ""
