"""The same run as a shell command and as a notebook cell, to copy."""

import shlex

from nanochat_core.config import FinetuneConfig
from nanochat_core.run_code import named_settings, notebook_cell

__all__ = ["notebook_cell", "shell_command"]


def shell_command(config: FinetuneConfig, nproc: int = 1, devices: str = "") -> str:
    """What to type in the project's folder. devices: numbers of the GPUs, "" for all."""
    words = ["python", "-m", "nanochat_core", "finetune"]
    if nproc > 1:
        words += ["--nproc", str(nproc)]
    for name, value in named_settings(config).items():
        words += [f"--{name}", str(value)]
    prefix = f"CUDA_VISIBLE_DEVICES={devices} " if devices else ""
    return prefix + " ".join(shlex.quote(word) for word in words)
