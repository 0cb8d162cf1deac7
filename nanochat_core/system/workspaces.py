"""A folder for work in progress: empty at the beginning, gone at the end, and never used by two at once."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock


@contextlib.contextmanager
def workspace(folder: Path, busy: str) -> Iterator[Path]:
    """`folder`, empty, for one process at a time; what a killed one left there is removed.

    busy: the sentence of the ValueError when another process works there. Beside the folder stays a lock file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0), emptied(folder):
            yield folder
    except filelock.Timeout as error:
        raise ValueError(busy) from error


@contextlib.contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    """`folder`, empty within the block and gone after it; also what a killed process left there is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
