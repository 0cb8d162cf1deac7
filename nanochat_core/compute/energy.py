"""The energy that a training takes, where the hardware counts it: NVIDIA's GPUs, and processors whose RAPL may be read.

A GPU's counter is of the whole card, a processor's of the whole package: what else runs there is in it.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

try:
    import pynvml
except ImportError:  # not there on every system
    pynvml = None

_FAILURES = (OSError, ValueError, *([pynvml.NVMLError] if pynvml else []))
_PACKAGES = Path("/sys/class/powercap")


class EnergyCounter:
    """Joules since it was made, of one device."""

    def __init__(self, device: torch.device, packages: Path = _PACKAGES):
        """packages: where Linux tells of the processor's counters."""
        self.of = "of the whole GPU" if device.type == "cuda" else "of the whole processor"
        self._counters = _gpu(device) if device.type == "cuda" else _processor(packages) if device.type == "cpu" else []
        self._last = [read() for read, _ in self._counters]
        self._sum = 0.0

    def joules(self) -> float | None:
        """None where nothing is counted, or no longer. To be asked every few minutes: the counters begin again at 0."""
        if not self._counters:
            return None
        try:
            found = [read() for read, _ in self._counters]
        except _FAILURES:  # a driver that hiccups, a right that was taken: no reason to end a training
            self._counters = []
            return None
        for number, (now, (_, size)) in enumerate(zip(found, self._counters)):
            self._sum += (now - self._last[number]) % size if size else now - self._last[number]
            self._last[number] = now
        return self._sum


Counter = tuple[Callable[[], float], float]
"""(its joules, at how many it begins again at 0; 0 for never)."""


def _gpu(device: torch.device) -> list[Counter]:
    if pynvml is None:
        return []
    with contextlib.suppress(pynvml.NVMLError):  # no driver, a card of before 2017, no permission
        pynvml.nvmlInit()
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(name)

        def read() -> float:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000

        read()
        return [(read, 0.0)]
    return []


def _processor(packages: Path) -> list[Counter]:
    """Of every package of the processor; those of cores and memory are within it."""
    found: list[Counter] = []
    for folder in sorted(packages.glob("intel-rapl:*")):
        with contextlib.suppress(OSError, ValueError):
            if (folder / "name").read_text().startswith("package"):
                size = int((folder / "max_energy_range_uj").read_text()) / 1e6
                _micro_joules(folder)
                found.append((partial(_micro_joules, folder), size))
    return found


def _micro_joules(folder: Path) -> float:
    return int((folder / "energy_uj").read_text()) / 1e6
