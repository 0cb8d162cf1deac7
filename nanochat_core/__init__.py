"""nanochat studio's engine room: finetune nanochat models on your own conversations, and talk to the result.

The names below are loaded when they are first used, so that importing the package stays cheap and those that
need no torch do not load it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanochat_core.batches import pack, render
    from nanochat_core.checkpoint import load_model
    from nanochat_core.config import FinetuneConfig
    from nanochat_core.conversations import check, load_conversations, save_conversations
    from nanochat_core.display import show_conversation, show_tokens
    from nanochat_core.engine import Engine
    from nanochat_core.evaluation import evaluate, load_questions
    from nanochat_core.hub import download
    from nanochat_core.hub_datasets import import_dataset
    from nanochat_core.launcher import start_run
    from nanochat_core.notebook_export import notebook_of
    from nanochat_core.paths import default_model
    from nanochat_core.plotting import plot_runs
    from nanochat_core.presets import with_preset
    from nanochat_core.ranks import choose_device
    from nanochat_core.remote_run import resume_remote_run, start_remote_run
    from nanochat_core.remote_sync import sync_remote_run
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
    "choose_device": "ranks",
    "default_model": "paths",
    "download": "hub",
    "evaluate": "evaluation",
    "finetune": "training",
    "import_dataset": "hub_datasets",
    "load_conversations": "conversations",
    "load_model": "checkpoint",
    "load_questions": "evaluation",
    "notebook_of": "notebook_export",
    "pack": "batches",
    "plot_runs": "plotting",
    "render": "batches",
    "save_conversations": "conversations",
    "show_conversation": "display",
    "show_tokens": "display",
    "resume_remote_run": "remote_run",
    "start_remote_run": "remote_run",
    "start_run": "launcher",
    "sync_remote_run": "remote_sync",
    "with_preset": "presets",
}

__all__ = [
    "Engine",
    "FinetuneConfig",
    "Run",
    "Tokenizer",
    "check",
    "choose_device",
    "default_model",
    "download",
    "evaluate",
    "finetune",
    "import_dataset",
    "load_conversations",
    "load_model",
    "load_questions",
    "notebook_of",
    "pack",
    "plot_runs",
    "render",
    "resume_remote_run",
    "save_conversations",
    "show_conversation",
    "show_tokens",
    "start_remote_run",
    "start_run",
    "sync_remote_run",
    "with_preset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nanochat_core' has no attribute '{name}'")
    return getattr(importlib.import_module(f"nanochat_core.{_HOMES[name]}"), name)
