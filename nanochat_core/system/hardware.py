"""What this machine has, found without torch: processor, memory, and the GPUs of which NVIDIA's driver tells."""

import contextlib
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

try:
    import pynvml
except ImportError:  # an installation from before it was asked for
    pynvml = None

_DOUBT = "There is an NVIDIA driver, but it gave no list of GPUs: training would run on the CPU."

_VECTORS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimddp": "DOTPROD",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
}
"""Linux's name of a vector unit -> its usual one; those that matter for this program."""

_APPLE_VECTORS = {"FEAT_DotProd": "DOTPROD", "FEAT_I8MM": "I8MM", "FEAT_BF16": "BF16"}

_FIRST_WITH_BF16 = (8, 0)
"""Compute capability: Ampere."""


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; memory in bytes."""

    index: int
    name: str
    memory: int
    used: int
    capability: tuple[int, int] | None = None
    """CUDA's compute capability; None where the driver does not tell."""

    @property
    def has_bf16(self) -> bool | None:
        """Whether it computes in bfloat16 by itself; None where that is not known."""
        return None if self.capability is None else self.capability >= _FIRST_WITH_BF16


@dataclass(frozen=True)
class Processor:
    """The CPU."""

    name: str
    vectors: tuple[str, ...] = ()
    """Its vector units, as far as this program uses them."""


@dataclass(frozen=True)
class Hardware:
    """What this machine has."""

    gpus: tuple[Gpu, ...]
    apple: bool
    """An Apple GPU, which torch reaches as mps."""
    cores: int
    memory: int
    """The machine's memory in bytes, or the part of it that this program's container may use."""
    doubt: str = ""
    """Why the list of GPUs may be wrong, as one sentence."""
    processor: Processor = Processor("")

    def sentence(self) -> str:
        """What was found, said plainly."""
        name = f" ({self.processor.name})" if self.processor.name else ""
        ram = f"{self.cores} CPU cores{name}, {self.memory / 1e9:.0f} GB of memory"
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
    return Hardware(gpus, apple, _cores(), _memory(), doubt, _processor())


def _cores() -> int:
    """Those that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return allowed or os.cpu_count() or 1


def _memory() -> int:
    total = psutil.virtual_memory().total
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # not in a container, or "max"
            total = min(total, int(Path(limit).read_text()))
    return total


def _processor() -> Processor:
    if platform.system() == "Darwin":
        return _apple_processor()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Processor(platform.processor() or platform.machine())
    facts: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    name = facts.get("model name") or platform.processor() or platform.machine()
    return Processor(name, tuple(words for flag, words in _VECTORS.items() if flag in flags))


def _apple_processor() -> Processor:
    name = _sysctl("machdep.cpu.brand_string") or platform.machine()
    if platform.machine() != "arm64":
        return Processor(name, ("AVX2",) if _sysctl("hw.optional.avx2_0") == "1" else ())
    units = [words for feature, words in _APPLE_VECTORS.items() if _sysctl(f"hw.optional.arm.{feature}") == "1"]
    return Processor(name, ("NEON", *units))


def _sysctl(name: str) -> str:
    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()


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
    name, capability = pynvml.nvmlDeviceGetName(handle), _capability(handle)
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)  # as nvidia-smi counts it
    except pynvml.NVMLError_NotSupported:  # it has none of its own and shares the CPU's
        return Gpu(index, name, 0, 0, capability)
    return Gpu(index, name, memory.total, memory.used, capability)


def _capability(handle: object) -> tuple[int, int] | None:
    try:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    except pynvml.NVMLError_NotSupported:
        return None
    return int(major), int(minor)
