"""The devices that training can use, found without torch: NVIDIA's own tool is asked."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass

import psutil

_QUERY = ["--query-gpu=index,name,memory.total,memory.used", "--format=csv,noheader,nounits"]
_MIB = 1 << 20


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
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return (), ""
    try:
        answer = subprocess.run([tool, *_QUERY], capture_output=True, text=True, timeout=20, check=True).stdout
        return tuple(_gpu(line) for line in answer.splitlines() if line.strip()), ""
    except (OSError, subprocess.SubprocessError, ValueError):
        return (), "nvidia-smi is here but gave no list of GPUs: training would run on the CPU."


def _gpu(line: str) -> Gpu:
    index, name, total, used = (cell.strip() for cell in line.split(","))
    return Gpu(int(index), name, _mib(total), _mib(used))


def _mib(text: str) -> int:
    return int(text) * _MIB if text.isdigit() else 0  # [N/A] where memory is shared with the CPU
