"""`export`: write a model for other programs; a module of its own, as each command that `main` imports by name."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from nanochat_core.cli.terminal import parse, say
from nanochat_core.paths import default_model


@dataclass(frozen=True)
class ExportCommand:
    """Write a model as a folder that other programs load."""

    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to write: a new one, or an empty one."""
    model: str | None = None
    """NAME of the model: starter, pretrained/d32, finetuned/<run>, or a folder; without it d32, or the starter."""
    format: str = "transformers"
    """transformers (Hugging Face's) or nanochat (its own folders); peft: of a run with LoRA the adapter alone."""
    dtype: str | None = None
    """float32 or bfloat16; without it full precision."""
    step: int | None = None
    """Checkpoint step; without it the newest."""


def run(arguments: list[str]) -> int:
    """Write a model in another format. Returns the exit status."""
    options = parse(ExportCommand, arguments, "export")
    from nanochat_core.export.export import export  # here, because `export --help` must not wait for torch

    name = default_model() if options.model is None else options.model
    folder = export(name, options.out, options.format, options.dtype, options.step)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        say(f"{path.relative_to(folder)!s:<48} {path.stat().st_size / 1e6:>10,.2f} MB")
    say(f"{name} is in {folder}. README.md, 'Use it elsewhere', says how to load it.")
    return 0
