"""nanochat studio's engine room: finetune nanochat models on your own conversations, and talk to the result.

The names below are loaded when they are first used, so that importing the package stays cheap and those that
need no torch do not load it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanochat_core.checkpoint.loading import load_model as load_model
    from nanochat_core.compute.devices import choose_device as choose_device
    from nanochat_core.config import FinetuneConfig as FinetuneConfig
    from nanochat_core.data.conversations import (
        check as check,
    )
    from nanochat_core.data.conversations import (
        load_conversations as load_conversations,
    )
    from nanochat_core.data.conversations import (
        save_conversations as save_conversations,
    )
    from nanochat_core.engine.engine import Engine as Engine
    from nanochat_core.evaluation.answers import evaluate as evaluate
    from nanochat_core.evaluation.pairs import flips as flips
    from nanochat_core.evaluation.questions import load_questions as load_questions
    from nanochat_core.hub.datasets import import_dataset as import_dataset
    from nanochat_core.hub.downloading import download as download
    from nanochat_core.model.batch import pack as pack
    from nanochat_core.paths import default_model as default_model
    from nanochat_core.paths import find_file as find_file
    from nanochat_core.remote.start import resume_remote_run as resume_remote_run
    from nanochat_core.remote.start import start_remote_run as start_remote_run
    from nanochat_core.remote.sync import sync_remote_run as sync_remote_run
    from nanochat_core.rows.review import review as review
    from nanochat_core.rows.trace import trace as trace
    from nanochat_core.runs.as_notebook import notebook_of as notebook_of
    from nanochat_core.runs.curves import plot_runs as plot_runs
    from nanochat_core.runs.launcher import start_run as start_run
    from nanochat_core.runs.presets import with_preset as with_preset
    from nanochat_core.runs.run import Run as Run
    from nanochat_core.show.conversations import show_conversation as show_conversation
    from nanochat_core.show.conversations import show_tokens as show_tokens
    from nanochat_core.tokenizer.rendering import render as render
    from nanochat_core.tokenizer.tokenizer import Tokenizer as Tokenizer
    from nanochat_core.training.finetune import finetune as finetune

__version__ = "0.1.0"

_NAMES = {
    "checkpoint.loading": "load_model",
    "compute.devices": "choose_device",
    "config": "FinetuneConfig",
    "data.conversations": "check load_conversations save_conversations",
    "engine.engine": "Engine",
    "evaluation.answers": "evaluate",
    "evaluation.pairs": "flips",
    "evaluation.questions": "load_questions",
    "hub.datasets": "import_dataset",
    "hub.downloading": "download",
    "model.batch": "pack",
    "paths": "default_model find_file",
    "remote.start": "resume_remote_run start_remote_run",
    "remote.sync": "sync_remote_run",
    "rows.review": "review",
    "rows.trace": "trace",
    "runs.as_notebook": "notebook_of",
    "runs.curves": "plot_runs",
    "runs.launcher": "start_run",
    "runs.presets": "with_preset",
    "runs.run": "Run",
    "show.conversations": "show_conversation show_tokens",
    "tokenizer.rendering": "render",
    "tokenizer.tokenizer": "Tokenizer",
    "training.finetune": "finetune",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nanochat_core' has no attribute '{name}'")
    return getattr(importlib.import_module(f"nanochat_core.{_HOMES[name]}"), name)
