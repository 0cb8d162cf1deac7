"""The conversations on which an export is measured: those that a run kept for validation, or the shipped example."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanochat_core.data.tokens.cache import tokenized
from nanochat_core.data.tokens.plan import Examples, split
from nanochat_core.paths import ModelFiles, shipped
from nanochat_core.runs.run import Run, run_at
from nanochat_core.system.files import sha256_of
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.tokenizer.tokenizer import Tokenizer

EXAMPLE = "data/example_data.jsonl"


@dataclass(frozen=True)
class Conversations:
    """What there is to measure on."""

    source: str
    """In words."""
    validation: Sequence[Example]
    everything: Sequence[Example]
    """The whole data, of which `validation` is a part."""


def conversations_for(files: ModelFiles, tokenizer: Tokenizer, context: int) -> Conversations:
    """Those of the run that the model in `files` belongs to, where its data is as it was; else the shipped example."""
    run = run_at(files.folder)
    if run is not None:
        with contextlib.suppress(ValueError, OSError):
            return _of_run(run, tokenizer)
    # Whatever is wrong with the run's own is not told: the words go with the file to other people.
    reason = "" if run is None else ", because the run's own data is not here as it was"
    examples = _examples(shipped(EXAMPLE), tokenizer, context)
    return Conversations(f"the shipped {EXAMPLE}{reason}", examples, examples)


def _of_run(run: Run, tokenizer: Tokenizer) -> Conversations:
    settings = run.settings()
    path = Path(settings.data_path)
    if sha256_of(path) != run.record().get("data", {}).get("sha256"):
        raise ValueError("The data has changed since the training.")
    examples = _examples(path, tokenizer, settings.max_seq_len)
    _, validation = split(examples, settings.val_split, settings.split, settings.seed)
    return Conversations(f"the validation conversations of the run {run.tag}", validation, examples)


def _examples(path: Path, tokenizer: Tokenizer, longest: int) -> Examples:
    return Examples(tokenized(path, tokenizer, longest), tokenizer)
