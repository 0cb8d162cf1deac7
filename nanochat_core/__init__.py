"""nanochat studio's engine room: finetune nanochat models on your own conversations, and talk to the result.

The names below are loaded when they are first used, so that importing the package stays cheap and those that
need no torch do not load it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanochat_core.checkpoint.loading import load_model
    from nanochat_core.compute.devices import choose_device
    from nanochat_core.config import FinetuneConfig
    from nanochat_core.data.conversations import check, load_conversations, save_conversations
    from nanochat_core.engine.engine import Engine
    from nanochat_core.evaluation.answers import evaluate
    from nanochat_core.evaluation.questions import load_questions
    from nanochat_core.hub.datasets import import_dataset
    from nanochat_core.hub.downloading import download
    from nanochat_core.model.batch import pack
    from nanochat_core.paths import default_model
    from nanochat_core.remote.start import resume_remote_run, start_remote_run
    from nanochat_core.remote.sync import sync_remote_run
    from nanochat_core.runs.as_notebook import notebook_of
    from nanochat_core.runs.launcher import start_run
    from nanochat_core.runs.presets import with_preset
    from nanochat_core.runs.run import Run
    from nanochat_core.show.charts import plot_runs
    from nanochat_core.show.conversations import show_conversation, show_tokens
    from nanochat_core.tokenizer.rendering import render
    from nanochat_core.tokenizer.tokenizer import Tokenizer
    from nanochat_core.training.finetune import finetune

__version__ = "0.1.0"

_HOMES = {
    "Engine": "engine.engine",
    "FinetuneConfig": "config",
    "Run": "runs.run",
    "Tokenizer": "tokenizer.tokenizer",
    "check": "data.conversations",
    "choose_device": "compute.devices",
    "default_model": "paths",
    "download": "hub.downloading",
    "evaluate": "evaluation.answers",
    "finetune": "training.finetune",
    "import_dataset": "hub.datasets",
    "load_conversations": "data.conversations",
    "load_model": "checkpoint.loading",
    "load_questions": "evaluation.questions",
    "notebook_of": "runs.as_notebook",
    "pack": "model.batch",
    "plot_runs": "show.charts",
    "render": "tokenizer.rendering",
    "save_conversations": "data.conversations",
    "show_conversation": "show.conversations",
    "show_tokens": "show.conversations",
    "resume_remote_run": "remote.start",
    "start_remote_run": "remote.start",
    "start_run": "runs.launcher",
    "sync_remote_run": "remote.sync",
    "with_preset": "runs.presets",
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
