"""`export`: write a model for other programs; a module of its own, as each command that `main` imports by name."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from nanochat_core.cli.terminal import parse, say, tell
from nanochat_core.paths import default_model


@dataclass(frozen=True)
class ExportCommand:
    """Write a model as a folder that other programs load."""

    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to write: a new one, or an empty one."""
    model: str | None = None
    """NAME of the model: starter, pretrained/d32, finetuned/<run>, or a folder; without it d32, or the starter."""
    format: str = "transformers"
    """transformers (Hugging Face's), nanochat (its own folders) or gguf (llama.cpp, Ollama, LM Studio); peft: of a run
    with LoRA the adapter alone."""
    quant: str | None = None
    """With gguf: f32, bf16, q8_0 (without it this), q5_0 or q4_0."""
    dtype: str | None = None
    """float32 or bfloat16; without it full precision."""
    step: int | None = None
    """Checkpoint step; without it the newest."""


def run(arguments: list[str]) -> int:
    """Write a model in another format. Returns the exit status."""
    options = parse(ExportCommand, arguments, "export")
    from nanochat_core.export.export import export  # here, because `export --help` must not wait for torch
    from nanochat_core.export.llama.report import ollama_line

    name = default_model() if options.model is None else options.model
    folder = export(name, options.out, options.format, options.dtype, options.step, options.quant, tell)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        say(f"{path.relative_to(folder)!s:<48} {path.stat().st_size / 1e6:>10,.2f} MB")
    if options.format == "gguf":
        say((folder / "README.md").read_text(encoding="utf-8"))
        say(f"{name} is in {folder}. LM Studio and llama.cpp take the .gguf; for Ollama: {ollama_line(folder)}")
    else:
        say(f"{name} is in {folder}. README.md, 'Use it elsewhere', says how to load it.")
    return 0
