"""The same run as a shell command and as a notebook cell, to copy."""

import os
import shlex
from pathlib import Path
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.presets import with_preset
from studio.showcode import python_call

_BASE = ("data_path", "source", "model_tag", "from_finetuned", "output_tag")


def shell_command(config: FinetuneConfig, nproc: int = 1, devices: str = "") -> str:
    """What to type in the project's folder. devices: numbers of the GPUs, "" for all."""
    words = ["python", "-m", "nanochat_core", "finetune"]
    if nproc > 1:
        words += ["--nproc", str(nproc)]
    for name, value in _said(config).items():
        words += [f"--{name}", str(value)]
    prefix = f"CUDA_VISIBLE_DEVICES={devices} " if devices else ""
    return prefix + " ".join(shlex.quote(word) for word in words)


def notebook_cell(config: FinetuneConfig, nproc: int = 1, devices: str = "") -> str:
    """A cell that starts the run and shows its status; the run goes on when the notebook is closed."""
    head = "from nanochat_core import start_run, with_preset\n\n"
    if devices:
        head = f'import os\n\n{head}os.environ["CUDA_VISIBLE_DEVICES"] = "{devices}"\n'
    config_call = python_call("with_preset", _said(config))
    count = f", nproc={nproc}" if nproc > 1 else ""
    return f"{head}config = {config_call}\nrun = start_run(config{count})  # returns at once\nrun.status()"


def _said(config: FinetuneConfig) -> dict[str, Any]:
    """The settings that must be named: which base, and what differs from what suits it (the command adds that)."""
    values = config.to_dict()
    default = FinetuneConfig(data_path="-").to_dict()
    base = {name: values[name] for name in _BASE if values[name] != default[name]}
    suited = with_preset(**base).to_dict()
    base["output_tag"] = config.output_tag
    changed = {name: value for name, value in values.items() if name not in base and value != suited[name]}
    return {name: _short(value) for name, value in {**base, **changed}.items()}


def _short(value: Any) -> Any:
    """A path inside the project as it is typed there."""
    if isinstance(value, str) and os.path.isabs(value) and Path(value).is_relative_to(PROJECT_ROOT):
        return str(Path(value).relative_to(PROJECT_ROOT))
    return value
