"""nanochat studio's engine room: finetune nanochat models on your own conversations, and talk to the result.

The names below are loaded when they are first used, so that importing the package stays cheap and those that
need no torch do not load it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanochat_core.checkpoint import load_model
    from nanochat_core.config import FinetuneConfig
    from nanochat_core.conversations import check, load_conversations
    from nanochat_core.engine import Engine
    from nanochat_core.launcher import start_run
    from nanochat_core.presets import with_preset
    from nanochat_core.runs import Run
    from nanochat_core.tokenizer import Tokenizer
    from nanochat_core.training import finetune

__version__ = "0.1.0"

_HOMES = {
    "Engine": "engine",
    "FinetuneConfig": "config",
    "Run": "runs",
    "Tokenizer": "tokenizer",
    "check": "conversations",
    "finetune": "training",
    "load_conversations": "conversations",
    "load_model": "checkpoint",
    "start_run": "launcher",
    "with_preset": "presets",
}

__all__ = [
    "Engine",
    "FinetuneConfig",
    "Run",
    "Tokenizer",
    "check",
    "finetune",
    "load_conversations",
    "load_model",
    "start_run",
    "with_preset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nanochat_core' has no attribute '{name}'")
    return getattr(importlib.import_module(f"nanochat_core.{_HOMES[name]}"), name)
