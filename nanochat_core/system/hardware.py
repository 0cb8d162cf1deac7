"""The devices that training can use, found without torch: NVIDIA's driver is asked."""

import os
import platform
from dataclasses import dataclass

import psutil

try:
    import pynvml
except ImportError:  # an installation from before it was asked for
    pynvml = None

_DOUBT = "There is an NVIDIA driver, but it gave no list of GPUs: training would run on the CPU."


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; memory in bytes."""

    index: int
    name: str
    memory: int
    used: int


@dataclass(frozen=True)
class Hardware:
    """What this machine has."""

    gpus: tuple[Gpu, ...]
    apple: bool
    """An Apple GPU, which torch reaches as mps."""
    cores: int
    memory: int
    """The machine's memory in bytes."""
    doubt: str = ""
    """Why the list of GPUs may be wrong, as one sentence."""

    def sentence(self) -> str:
        """What was found, said plainly."""
        ram = f"{self.cores} CPU cores, {self.memory / 1e9:.0f} GB of memory"
        if self.gpus:
            names = ", ".join(f"GPU {gpu.index}: {gpu.name} ({gpu.memory / 1e9:.0f} GB)" for gpu in self.gpus)
            return f"{names}; {ram}."
        if self.apple:
            return f"An Apple GPU; {ram}."
        found = self.doubt or "No GPU was found: training runs on the CPU, which suits the starter and no large model."
        return f"{found} {ram}."


def find_hardware() -> Hardware:
    """Ask the system. Takes a fraction of a second where there are NVIDIA GPUs."""
    gpus, doubt = _nvidia()
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return Hardware(gpus, apple, os.cpu_count() or 1, psutil.virtual_memory().total, doubt)


def _nvidia() -> tuple[tuple[Gpu, ...], str]:
    if pynvml is None:
        return (), "GPUs cannot be listed without the package nvidia-ml-py (`make install` brings it)."
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:  # no NVIDIA driver
        return (), ""
    except pynvml.NVMLError:
        return (), _DOUBT
    try:
        return tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())), ""
    except pynvml.NVMLError:
        return (), _DOUBT
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)  # as nvidia-smi counts it
    except pynvml.NVMLError_NotSupported:  # it has none of its own and shares the CPU's
        return Gpu(index, pynvml.nvmlDeviceGetName(handle), 0, 0)
    return Gpu(index, pynvml.nvmlDeviceGetName(handle), memory.total, memory.used)
