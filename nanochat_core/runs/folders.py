"""Folders of runs come into being whole and leave by a rename; nothing is written or deleted through a link.

A folder that is made, filled or deleted in place can be seen half done: by a list of models, by a second process that
takes the same name, by whoever comes after a crash.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanochat_core.paths import finetuned_dir
from nanochat_core.system.files import sync_folder, write_json

_NEW, _BIN = ".new", ".bin"
_OURS = re.compile(
    r"config\.json|launch\.json|status\.json|metrics\.jsonl|rows\.jsonl|data\.jsonl\.gz|trace|log\.txt|stop"
    r"|remote\.json|watcher\.log|\.entry\.json|\.beats|\.unpacked\.jsonl"
    r"|\..*\.lock|\.reserve|\..*\.tmp|(model|meta)_\d{6,}\.(pt|json)(\.sha256)?|adapter_\d{6,}"
    r"|(tokenizer\.pkl|token_bytes\.pt)(\.sha256)?|resume|evals|\.ranks"
)
"""Names that this project gives to what lies in a run's folder."""


def make_folder(target: Path, files: Mapping[str, Any]) -> None:
    """The folder `target` with these JSON files in it, at once: no other process ever sees it without them.

    FileExistsError when there is one with something in it.
    """
    new = target.parent / _NEW / f"{target.name}-{os.getpid()}-{time.monotonic_ns()}"
    new.mkdir(parents=True)
    try:
        for name, content in files.items():
            write_json(new / name, content)
        if os.name == "nt" and target.is_dir():
            target.rmdir()  # a rename takes the place of an empty folder everywhere else
        try:
            os.rename(new, target)
        except OSError as error:
            raise FileExistsError(f"{target} exists.") from error
        sync_folder(target.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(OSError):  # another one is being made
            new.parent.rmdir()


def is_left_over(folder: Path) -> bool:
    """Whether a folder holds nothing but what we write before a run's first checkpoint, such as a lone status.json."""
    names = [path.name for path in folder.iterdir()]
    trained = any(name.startswith(("model_", "adapter_")) or name in ("metrics.jsonl", "resume") for name in names)
    return bool(names) and not trained and all(_OURS.fullmatch(name) for name in names)


def put_aside(folder: Path) -> Path:
    """Rename a run's folder into the bin beside the runs, with everything that a person may have put into it."""
    place = folder.parent / _BIN
    place.mkdir(exist_ok=True)
    target = place / f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06d}"
    os.rename(folder, target)
    return target


def delete_folder(folder: Path) -> Path | None:
    """Delete what we made of a run. What others put there stays in the bin: its folder there, or None."""
    aside = put_aside(folder)
    for path in aside.iterdir():
        if not _OURS.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    with contextlib.suppress(OSError):  # something of a person's is left
        aside.rmdir()
        aside.parent.rmdir()
    return aside if aside.exists() else None


def refuse_links(folder: Path) -> None:
    """ValueError when a run's folder, or something in it, is a link to a place outside of the runs' folder.

    The runs' folder itself may be one: a whole disk for models is a person's own choice.
    """
    root = finetuned_dir().resolve()
    for path in (folder, *(folder.iterdir() if folder.is_dir() else ())):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ValueError(
                f"{path} is a link to {path.resolve()}, outside of {root}. Nothing is written or deleted through it: "
                "put a copy in the place of the link."
            )
