"""Export and publication of a run's model: commands in processes of their own, as they need torch; one at a time."""

import os
import re
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import IO

from nanochat_core.export.llama.quants import DEFAULT, QUANTS, Quant, file_bytes, fits, quant_named
from nanochat_core.export.llama.speed import tokens_per_second
from nanochat_core.memory.shapes import shape_in
from nanochat_core.model.shape import GPTConfig
from nanochat_core.paths import find_model, home, whole_model
from nanochat_core.runs import as_code
from nanochat_core.runs.run import Run
from nanochat_core.system.spawn import spawn
from nanochat_core.system.words import size
from studio.parts import html

MISTAKE = 2
"""Exit status of a command that was given something it cannot work with."""
_LINES = 12
_ENDS = re.compile(r"[\r\n]+")


@dataclass
class _Work:
    """One command that was started."""

    title: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]


_lock = threading.Lock()
_last: _Work | None = None


TRANSFORMERS = "transformers"


def export_words(tag: str, form: str = TRANSFORMERS) -> list[str]:
    """The command that exports the newest checkpoint of run `tag`. ValueError when there is no such run.

    form: TRANSFORMERS, or the name of a quantization for a GGUF file.
    """
    run = _checked(tag)
    folder, model = home() / "models" / "exported", ["export", "--model", f"finetuned/{run.tag}"]
    if form == TRANSFORMERS:
        return [*model, str(folder / run.tag), "--format", form]
    return [*model, str(folder / f"{run.tag}-gguf-{quant_named(form).name}"), "--format", "gguf", "--quant", form]


def export_forms(tag: str | None) -> list[tuple[str, str]]:
    """(label, form) of what run `tag` can be exported as, each GGUF with its size and expected speed."""
    forms = [("for transformers, vLLM and others", TRANSFORMERS)]
    try:
        shape = shape_in(whole_model(find_model(f"finetuned/{tag}"))) if tag else None
    except ValueError:  # a run without a checkpoint, or whose base is gone: the export says it
        shape = None
    if shape is None or shape.generation != "A":
        return forms
    return [*forms, *((_label(shape, quant), quant.name) for quant in QUANTS.values() if fits(shape, quant))]


def _label(shape: GPTConfig, quant: Quant) -> str:
    """A GGUF file for a person to choose."""
    speed = tokens_per_second(shape, quant)
    shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
    return f"GGUF {quant.label}: {size(file_bytes(shape, quant))}, about {shown} tokens/s here; {quant.words}"


def publish_words(tag: str, repo: str, public: bool, with_data: bool, follow: bool, with_gguf: bool) -> list[str]:
    """The command that publishes run `tag`. ValueError when there is no such run, or no repository is named."""
    run, repo = _checked(tag), (repo or "").strip()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ValueError(f"The repository is '{repo}': give your name and one for the model, such as me/my-bakery.")
    flags = [("--public", public), ("--with-data", with_data), ("--follow", follow)]
    gguf = ["--gguf", DEFAULT] if with_gguf else []
    return ["publish", "--model", f"finetuned/{run.tag}", repo, *(flag for flag, is_set in flags if is_set), *gguf]


def shell(words: list[str]) -> str:
    """The same to type in a shell."""
    return as_code.joined(["python", "-m", "nanochat_core", *words], {})


def start(title: str, words: list[str]) -> None:
    """Start it. It continues when the app is closed. ValueError while another one is running."""
    global _last
    with _lock:
        if _last is not None and is_active():
            raise ValueError(f"{_last.title} is still running. Wait until it has ended.")
        output = tempfile.TemporaryFile()  # noqa: SIM115 - it is read until the next one begins
        command = [sys.executable, "-m", "nanochat_core", *words]
        process = spawn(command, secrets=words[0] == "publish", stdout=output)  # the login of who publishes
        _last = _Work(title, process, output)


def is_active() -> bool:
    """Whether an export or a publication is running."""
    return _last is not None and _last.process.poll() is None


def shown() -> str:
    """What was started last, as it is now; "" when there was nothing."""
    work = _last
    if work is None:
        return ""
    status, lines = work.process.poll(), _tail(work.output)
    if status is None:
        return html.note(f"{work.title} is running.") + html.log("\n".join(lines) or "...")
    if status == 0:
        return html.note(f"{work.title} is done.", "good") + html.log("\n".join(lines))
    if status == MISTAKE and lines:  # its last line is the sentence for the person
        return html.note(lines[-1].removeprefix("Error: "), "bad")
    return html.note(f"{work.title} failed.", "bad") + html.log("\n".join(lines))


def _tail(output: IO[bytes]) -> list[str]:
    """The last lines of what was printed; of a bar that draws itself again, its last state."""
    length = os.fstat(output.fileno()).st_size
    # Not seek and read: the process writes on from where this file stands.
    text = os.pread(output.fileno(), 20_000, max(0, length - 20_000)).decode("utf-8", "replace")
    return [line for line in _ENDS.split(text) if line.strip()][-_LINES:]


def _checked(tag: str | None) -> Run:
    if not tag:
        raise ValueError("No run is chosen. Choose one above.")
    return Run.open(tag)
