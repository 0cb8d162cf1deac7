"""The facts that `doctor` tells: plain ones found here, torch's and the speeds in a process of their own."""

import json
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

import psutil

from nanochat_core.config import FinetuneConfig
from nanochat_core.memory.plan import MemoryPlan, plan_memory, this_device, training_of
from nanochat_core.memory.shapes import shape_in, shape_of_depth
from nanochat_core.model.shape import GPTConfig
from nanochat_core.native.build import SOURCES, find_compiler, library
from nanochat_core.paths import checkout, download_command, home, list_models
from nanochat_core.runs.presets import with_preset
from nanochat_core.system.disk import free_bytes
from nanochat_core.system.hardware import Hardware, find_hardware
from nanochat_core.system.spawn import spawn

MEASURE_SECONDS = 120
"""Until the measurement is given up; on an idle machine it takes some seconds for each shape."""
D32, D32_BYTES = "pretrained/d32", 7_300_000_000
_TORCH_FACTS = ("torch_cuda", "torch_cpu", "device", "device_type", "bf16", "threads")
MOST_SHAPES = 4
"""Different shapes that are measured, in the order of the models."""


@dataclass(frozen=True)
class Missing:
    """What would make the machine do more, and how to get it."""

    what: str
    fix: str


@dataclass(frozen=True)
class ModelHere:
    """A model, how it would be trained here, and how fast it is expected to be. Rates are None where not measured."""

    name: str
    plan: MemoryPlan
    train_rate: float | None
    chat_rate: float | None


@dataclass(frozen=True)
class Machine:
    """Everything that was found."""

    hardware: Hardware
    memory_free: int
    disk_free: int
    compiler: str | None
    compiled: bool
    python: str
    torch_version: str | None
    torch: dict[str, Any] | None
    """What torch says in its own process; None where that failed."""
    models: list[ModelHere]
    missing: list[Missing] = field(default_factory=list)
    error: str = ""
    """Why nothing was measured."""

    def to_json(self) -> dict[str, Any]:
        """The facts by name."""
        hardware, torch = self.hardware, self.torch or {}
        return {
            "processor": hardware.processor.name,
            "vector_units": list(hardware.processor.vectors),
            "cores": hardware.cores,
            "memory_bytes": hardware.memory,
            "memory_free_bytes": self.memory_free,
            "disk_free_bytes": self.disk_free,
            "compiler": self.compiler,
            "compiled_code": self.compiled,
            "gpus": [{**asdict(gpu), "bf16": gpu.has_bf16} for gpu in hardware.gpus],
            "python": self.python,
            "torch": self.torch_version,
            **{
                name: torch.get(name)
                for name in ("torch_cuda", "torch_cpu", "device", "device_type", "bf16", "threads")
            },
            "models": [
                {
                    "name": model.name,
                    "memory": model.plan.chosen,
                    "modes": model.plan.to_json()["modes"],
                    "train_tokens_per_s": model.train_rate,
                    "chat_tokens_per_s": model.chat_rate,
                }
                for model in self.models
            ],
            "missing": [asdict(one) for one in self.missing],
            "error": self.error,
        }


def examine() -> Machine:
    """Find everything out. Takes some seconds, most of them for measuring."""
    hardware, shapes = find_hardware(), _shapes()
    compiler, why_not = find_compiler()
    distinct = list(dict.fromkeys(shapes.values()))[:MOST_SHAPES]
    torch_version = _version("torch")
    measured, error = _measured(distinct) if torch_version else (None, "torch is not installed.")
    speeds = dict(zip(distinct, measured["speeds"] if measured else [], strict=False))
    device = this_device(hardware)
    models = []
    for name, shape in shapes.items():
        speed = speeds.get(shape, {})
        plan = plan_memory(training_of(_config(name), shape), device)
        models.append(ModelHere(name, plan, speed.get("train_tokens_per_s"), speed.get("chat_tokens_per_s")))
    return Machine(
        hardware=hardware,
        memory_free=psutil.virtual_memory().available,
        disk_free=free_bytes(home()),
        compiler=compiler,
        compiled=all(library(path.stem) is not None for path in SOURCES.glob("*.c")),
        python=platform.python_version(),
        torch_version=torch_version,
        torch=measured,
        models=models,
        missing=_missing(hardware, measured, why_not, D32 in {model.name for model in list_models()}),
        error=error,
    )


def _shapes() -> dict[str, GPTConfig]:
    """The shapes of the models here, and of d32, which everybody may have."""
    found = {}
    for model in list_models():
        try:
            found[model.name] = shape_in(model)
        except ValueError:  # `models` lists it, and whoever loads it is told
            continue
    return found if D32 in found else {**found, f"{D32} (not downloaded)": shape_of_depth(32)}


def _config(name: str) -> FinetuneConfig:
    """The settings with which a model would be trained."""
    return with_preset(data_path="-", model_tag="starter") if name == "starter" else FinetuneConfig("-")


def _measured(shapes: list[GPTConfig]) -> tuple[dict[str, Any] | None, str]:
    """(what the measuring process printed, "") or (None, why it failed)."""
    command = [sys.executable, "-m", "nanochat_core.training.speed", json.dumps([asdict(shape) for shape in shapes])]
    process = spawn(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        printed, said = process.communicate(timeout=MEASURE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, f"Measuring was given up after {MEASURE_SECONDS} s. Close other programs, then try again."
    if process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines()
        return None, lines[-1] if lines else f"The measuring process ended with status {process.returncode}."
    return json.loads(printed), ""


def _missing(hardware: Hardware, measured: dict[str, Any] | None, no_compiler: str, has_d32: bool) -> list[Missing]:
    found = []
    again = "make install" if checkout() else "pip install --upgrade nanochat-studio"
    if absent := _absent_packages():
        found.append(Missing(f"the packages {', '.join(absent)}", again))
    if no_compiler:
        command = "xcode-select --install" if platform.system() == "Darwin" else "sudo apt install gcc"
        found.append(Missing(no_compiler, f"{command} (or what your system calls it)"))
    if hardware.doubt:
        found.append(Missing(hardware.doubt, "nvidia-smi says what is wrong with the driver"))
    if hardware.gpus and measured and measured["device_type"] != "cuda":
        what = f"torch {measured['torch']} does not use the GPU that is here"
        found.append(Missing(what, f"{sys.executable} -m pip install --force-reinstall torch"))
    if not has_d32:
        room = "" if free_bytes(home()) > D32_BYTES else " (the disk has too little room for it)"
        found.append(Missing(f"nanochat-d32, the model of 1.9 billion parameters{room}", download_command()))
    return found


def _absent_packages() -> list[str]:
    """What this project requires and is not installed; nothing where it runs without having been installed itself."""
    try:
        required = metadata.requires("nanochat-studio") or []
    except metadata.PackageNotFoundError:
        return []
    names = [_name_of(line) for line in required if "extra ==" not in line]
    return [name for name in names if _version(name) is None]


def _name_of(line: str) -> str:
    """`gradio` of `gradio[oauth]>=6.31,<7`."""
    end = next((place for place, letter in enumerate(line) if not (letter.isalnum() or letter in "-_.")), len(line))
    return line[:end]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
