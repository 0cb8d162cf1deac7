"""Taking a model elsewhere: one of its checkpoints as a folder that other programs load.

The folder appears whole or not at all. It is written beside its place under a temporary name, flushed, and renamed.
"""

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from nanochat_core.checkpoint.adapters import adapter_files, read_adapter
from nanochat_core.checkpoint.loading import load_exact
from nanochat_core.export.llama.folder import write_folder
from nanochat_core.export.llama.quants import QUANTS, file_bytes, quant_named
from nanochat_core.export.llama.weights import check_expressible
from nanochat_core.export.nanochat import write_nanochat
from nanochat_core.export.transformers import check_exportable, write_transformers
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import ModelFiles, adapter_base, find_model
from nanochat_core.system.files import sync_folder
from nanochat_core.tokenizer.pickle_file import read_tokenizer_file
from nanochat_core.tokenizer.tokenizer import FILE_NAME

FORMATS = ("transformers", "nanochat", "peft", "gguf")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

SPARE_BYTES = 64 << 20
"""Room for the tokenizer and configurations, and so that the disk is not filled to its last byte."""


def export(  # noqa: PLR0913  all but the first two are options
    name: str,
    out: str | Path,
    format: str = "transformers",
    dtype: str | None = None,
    step: int | None = None,
    quant: str | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> Path:
    """Write the model called `name` into the folder `out`, which must not exist or be empty; returns its path.

    format: "transformers" (Hugging Face's, for transformers, vLLM and others), "nanochat" (its own folders) or "gguf"
    (for llama.cpp, Ollama and LM Studio, with what is different from here measured and told beside it), all with an
    adapter merged; or "peft": of a run with LoRA the adapter alone, for the export of its base.
    dtype: "float32" or "bfloat16"; None is full precision: fp32, but nanochat keeps its embedding tables in bf16.
    quant: how GGUF holds the weights, one of QUANTS; None is q8_0. step: that of the checkpoint; None takes the newest.
    say: is told what takes long.
    Weights are mapped from the file, and but for nanochat converted one tensor at a time. Raises ValueError with
    the remedy when the model cannot be read or expressed in the format, or `out` cannot be written.
    """
    _check_choices(format, dtype, quant, str(out))
    out = Path(out).expanduser().resolve()
    with _told_plainly(out):
        _check_free(out)
    files = find_model(name, step)
    if format == "peft":
        return _export_adapter(files, out)
    model, tokenizer, meta = load_exact(files)
    encoding = read_tokenizer_file(files.tokenizer_dir / FILE_NAME)
    if format == "transformers":
        check_exportable(model.config)
    elif format == "gguf":
        check_expressible(model.config, quant_named(quant))
    chosen = DTYPES[dtype] if dtype else None
    with _appearing(out) as folder:
        _check_space(folder, _size(model, format, chosen or torch.float32, quant))
        if format == "transformers":
            write_transformers(folder, model, encoding, chosen or torch.float32)
        elif format == "gguf":
            write_folder(folder, files, model, encoding, quant_named(quant), say)
        else:
            write_nanochat(folder, files, model, tokenizer, meta, chosen)
    return out


def _export_adapter(files: ModelFiles, out: Path) -> Path:
    if not files.is_adapter:
        raise ValueError(
            f"The model '{files.name}' is no adapter: it was not trained with method lora. Use --format transformers."
        )
    adapter = read_adapter(files.weights.parent)
    with _appearing(out) as folder:
        for name, content in adapter_files(adapter, adapter_base(files).name).items():
            (folder / name).write_bytes(content)
    return out


def _check_choices(format: str, dtype: str | None, quant: str | None, out: str) -> None:
    if format not in FORMATS:
        raise ValueError(f"There is no export format '{format}'. Use {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.")
    if format == "gguf" and dtype is not None:
        raise ValueError(f"GGUF's precision is called --quant, not --dtype. Use one of {', '.join(QUANTS)}.")
    if format != "gguf" and quant is not None:
        raise ValueError("--quant is for --format gguf. Leave it out, or add --format gguf.")
    quant_named(quant)
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"The dtype '{dtype}' is not one to export. Use {' or '.join(DTYPES)}.")
    if not out:
        raise ValueError("Name a folder to export into: a new one, or an empty one.")


def _check_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise ValueError(f"{out} {what}, and nothing is ever overwritten. Name a new folder to export into.")


def _size(model: GPT, format: str, dtype: torch.dtype, quant: str | None) -> int:
    """Bytes of the weights in the export."""
    if format == "gguf":
        return file_bytes(model.config, quant_named(quant))
    return sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize


def _check_space(folder: Path, size: int) -> None:
    needed = size + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"The export needs {needed / 1e9:,.2f} GB and the disk of {folder.parent} has {free / 1e9:,.2f} GB free. "
            "Make room, choose another disk, or export in a smaller precision."
        )


@contextlib.contextmanager
def _told_plainly(out: Path) -> Iterator[None]:
    """What the system says about `out` becomes a sentence."""
    try:
        yield
    except OSError as error:
        place = error.filename or out
        raise ValueError(
            f"{out} cannot be written ({place}: {error.strerror}). Choose another folder, or make room."
        ) from error


@contextlib.contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A new folder that becomes `out` at the end, or vanishes when something fails; so does what a killed one left."""
    with _told_plainly(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        folder = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
        folder.mkdir()
        try:
            with _locked(folder):
                yield folder
                _flush(folder)
                os.replace(folder, out)  # refused when `out` has been filled meanwhile
                sync_folder(out.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Marks `folder` as in use; the system ends that with the process, however it ends. OSError when it is in use.

    The folder is its own lock: the file of a filelock would stay behind in a person's folder, or in the export.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_leftovers(out: Path) -> None:
    """Remove the temporary folders of exports to `out` that were killed."""
    for folder in out.parent.glob(f".{glob.escape(out.name)}.*.tmp"):
        with contextlib.suppress(OSError), _locked(folder):
            shutil.rmtree(folder)


def _flush(folder: Path) -> None:
    """Have every file and folder inside on the disk before the name appears."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
