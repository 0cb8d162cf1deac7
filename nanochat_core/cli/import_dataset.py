"""`import-dataset`: a dataset of the hub as JSONL; a module of its own, as each command that `main` imports by name."""

from dataclasses import dataclass

import tyro

from nanochat_core.cli.terminal import parse, say
from nanochat_core.hub.datasets import import_dataset


@dataclass(frozen=True)
class ImportDatasetCommand:
    """Write the conversations of a dataset on the Hugging Face Hub to a new JSONL file, checked.

    Parquet or JSONL, with messages, ShareGPT, Alpaca, or prompt and completion.
    """

    repo: tyro.conf.Positional[str]
    """The dataset on the hub, such as HuggingFaceH4/no_robots."""
    out: tyro.conf.Positional[str]
    """The new JSONL file."""
    split: str = "train"
    """Part of the dataset."""
    config: str | None = None
    """Its configuration, where there are several."""
    limit: int | None = None
    """Read no more than this many rows; only what they take is fetched."""


def run(arguments: list[str]) -> int:
    """Import a dataset. Returns the exit status."""
    options = parse(ImportDatasetCommand, arguments, "import-dataset")
    say(import_dataset(options.repo, options.out, options.split, options.config, options.limit).summary())
    return 0
