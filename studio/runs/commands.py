"""The same run as a shell command and as a notebook cell, to copy."""

import shlex
from collections.abc import Mapping
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.as_code import named_settings, notebook_cell

__all__ = ["joined", "notebook_cell", "shell_command"]


def shell_command(config: FinetuneConfig, nproc: int = 1, devices: str = "") -> str:
    """What to type in the project's folder. devices: numbers of the GPUs, "" for all."""
    words = ["python", "-m", "nanochat_core", "finetune"]
    if nproc > 1:
        words += ["--nproc", str(nproc)]
    prefix = f"CUDA_VISIBLE_DEVICES={devices} " if devices else ""
    return prefix + joined(words, named_settings(config))


def joined(words: list[str], flags: Mapping[str, Any]) -> str:
    """A shell command of these words and flags, quoted where it must be."""
    given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    return " ".join(shlex.quote(word) for word in [*words, *given])
