"""What is remembered of how a run was made, so that it can be told and repeated years later."""

import contextlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.system.files import now, sha256_of

_PACKAGES = ("torch", "tiktoken", "numpy", "pandas", "huggingface_hub", "safetensors", "gradio")


def run_record(config: FinetuneConfig) -> dict[str, Any]:
    """Settings, base model, data (path, sha256, rows), versions, time. ValueError when the data cannot be read."""
    data = Path(config.data_path)
    try:
        facts = {"path": str(data), "sha256": sha256_of(data), "rows": _rows(data)}
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"The data file {data} cannot be read ({reason}). Correct data_path.") from error
    replay = Path(config.replay_path) if config.replay_path and config.replay_ratio > 0 else None
    if replay and replay.is_file():  # whoever reads it says what is wrong with it
        facts["replay_sha256"] = sha256_of(replay)
    return {
        "settings": config.to_dict(),
        "base_model": config.base_name,
        "data": facts,
        "versions": _versions(),
        "created": now(),
    }


def _rows(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(1 for line in file if line.strip())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
