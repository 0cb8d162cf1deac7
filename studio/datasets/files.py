"""The dataset files: list, create, copy, rename, bin, and save without ever writing over another person's change."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from nanochat_core.data.line import write_data
from nanochat_core.paths import home, shipped
from nanochat_core.system.files import sha256_of
from nanochat_core.system.words import first_hidden, printable

SHIPPED = ("example_data.jsonl",)
"""The examples that come with the program, in its data/ folder: templates, never written to."""

_NAME = re.compile(r"\w[\w .()-]{0,79}")
_QUESTIONS = "_questions.jsonl"


class ConflictError(ValueError):
    """The file on disk is not the one that was opened: another person or program has saved, moved or deleted it."""


@dataclass(frozen=True)
class Dataset:
    """One JSONL file that can be opened."""

    path: Path
    is_shipped: bool

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def label(self) -> str:
        return f"{self.name} (example)" if self.is_shipped else self.name


def data_dir() -> Path:
    """The person's own datasets."""
    return home() / "data"


def list_datasets() -> list[Dataset]:
    """The person's own files by name, then the shipped examples. Files of questions are no datasets."""
    examples = _examples()
    own = sorted(data_dir().glob("*.jsonl"), key=lambda path: path.name.lower()) if data_dir().is_dir() else []
    found = [Dataset(path, is_shipped=False) for path in own if path.is_file() and _is_own(path, examples)]
    return found + [Dataset(path, is_shipped=True) for path in examples if path.is_file()]


def _examples() -> list[Path]:
    return [shipped("data") / name for name in SHIPPED]


def _is_own(path: Path, examples: list[Path]) -> bool:
    return not path.name.startswith(".") and not path.name.endswith(_QUESTIONS) and path not in examples


def find_dataset(path: str | Path) -> Dataset:
    """The dataset at `path`; ValueError for anything that is not in the list, so that no other file is reached."""
    for dataset in list_datasets():
        if str(dataset.path) == str(path):
            return dataset
    raise ValueError(f"There is no dataset {Path(path).name}. It may have been renamed or deleted: pick another one.")


def checked_name(name: str) -> str:
    """`name` as the name of a file in data/, with its ending. ValueError when it could be anything else."""
    stem = name.strip().removesuffix(".jsonl").strip()
    if not _NAME.fullmatch(stem) or stem.endswith((".", " ")) or first_hidden(stem):
        raise ValueError(
            f"{printable(repr(name.strip())):.60} cannot be the name of a dataset. "
            "Use letters, digits, blanks, - and _, such as my-bakery."
        )
    if f"{stem}.jsonl".endswith(_QUESTIONS):
        raise ValueError(f"Names ending in {_QUESTIONS} are kept for files of questions. Choose another name.")
    return f"{stem}.jsonl"


def free_path(name: str) -> Path:
    """A path in data/ that nothing has yet: `name` itself, or with -2, -3 and so on."""
    name = checked_name(name)
    taken = {dataset.name.lower() for dataset in list_datasets()}
    stem, number, candidate = name.removesuffix(".jsonl"), 1, name
    while candidate.lower() in taken or (data_dir() / candidate).exists():
        number += 1
        candidate = f"{stem}-{number}.jsonl"
    return data_dir() / candidate


def name_from(file_name: str) -> str:
    """The name of a dataset made from an uploaded file's name, whatever that is."""
    seen = "".join(" " if first_hidden(letter) else letter for letter in file_name)
    stem = re.sub(r"[^\w .()-]+", "-", Path(seen).name.rsplit(".", 1)[0]).strip(" .-_")[:60].strip(" .")
    stem = stem.removesuffix("_questions")
    return f"{stem or 'mydata'}.jsonl"


def save(path: Path, lines: Callable[[BinaryIO], Any], expected_sha: str | None) -> str:
    """Replace `path`, all or nothing, keeping what it held as a version; the new file's SHA-256.

    `expected_sha` is that of the file when it was opened, None for a file that must not be there yet.
    ConflictError when it is another one by now; nothing is written then.
    """
    assert not _is_template(path), "shipped examples are saved under another name"
    with _locked():
        now = sha256_of(path) if path.exists() else None
        if now != expected_sha:
            raise ConflictError(_conflict(path, expected_sha, now))
        if now is not None:
            keep_version(path, now)
        write_data(path, lines)
        return sha256_of(path)


def _conflict(path: Path, expected: str | None, now: str | None) -> str:
    if now is None:
        return f"{path.name} is not there any more: it was renamed or deleted. Save your work under another name."
    if expected is None:
        return f"There is already a dataset {path.name}. Save under another name."
    return (
        f"{path.name} was changed elsewhere since you opened it. Nothing was saved and nothing is lost: "
        "save your work under another name, or reload the file and lose your changes."
    )


def duplicate(dataset: Dataset) -> Path:
    """Copy the file on disk; the copy's path. The copy of an example is called after it, with `my_` before."""
    with _locked():
        target = free_path(f"my_{dataset.name}" if dataset.is_shipped else dataset.name)
        content = dataset.path.read_bytes()
        write_data(target, lambda file: file.write(content))
    return target


def rename(dataset: Dataset, name: str) -> Path:
    """Give the file and its versions another name. ValueError when it is taken."""
    _refuse_template(dataset, "renamed")
    target = data_dir() / checked_name(name)
    with _locked():
        if free_path(name) != target:
            raise ValueError(f"There is already a dataset {target.name}. Choose another name.")
        os.rename(dataset.path, target)
        if versions_dir(dataset.path).is_dir():
            shutil.rmtree(versions_dir(target), ignore_errors=True)  # left over from a deleted file of that name
            os.rename(versions_dir(dataset.path), versions_dir(target))
    return target


def bin_dataset(dataset: Dataset) -> Path:
    """Move the file to data/.trash, from where a person can take it back; where it lies now."""
    _refuse_template(dataset, "deleted")
    trash = data_dir() / ".trash"
    trash.mkdir(exist_ok=True)
    with _locked():
        target = trash / f"{_now()}-{dataset.name}"
        os.rename(dataset.path, target)
    return target


def _refuse_template(dataset: Dataset, what: str) -> None:
    if dataset.is_shipped:
        raise ValueError(
            f"{dataset.name} is a shipped example and cannot be {what}. Duplicate it and work on the copy."
        )


def _is_template(path: Path) -> bool:
    return path in _examples()


# Versions


@dataclass(frozen=True)
class Version:
    """What a dataset held before a save."""

    path: Path
    time: datetime
    """When it was replaced, UTC."""
    short_sha: str
    """The first 16 hex digits of its SHA-256."""

    @property
    def label(self) -> str:
        return f"{self.time:%Y-%m-%d %H:%M:%S} UTC ({self.short_sha[:8]})"


_VERSION = re.compile(r"(\d{8}T\d{12})-([0-9a-f]{16})\.jsonl")


def versions_dir(path: Path) -> Path:
    """The folder of a dataset's kept versions."""
    return data_dir() / ".versions" / path.name


def versions(path: Path) -> list[Version]:
    """The kept versions of a dataset, newest first."""
    folder = versions_dir(path)
    names = [(_VERSION.fullmatch(entry.name), entry) for entry in folder.iterdir()] if folder.is_dir() else []
    found = [
        Version(entry, datetime.strptime(match[1], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC), match[2])
        for match, entry in names
        if match
    ]
    return sorted(found, key=lambda version: version.time, reverse=True)


def keep_version(path: Path, sha: str) -> Path:
    """Keep what `path` holds now. A second name for the same bytes: the save that follows replaces only the first."""
    kept = next((version.path for version in versions(path) if sha.startswith(version.short_sha)), None)
    if kept:
        return kept
    target = versions_dir(path) / f"{_now()}-{sha[:16]}.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        content = path.read_bytes()
        write_data(target, lambda file: file.write(content))
    return target


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Between looking at a file and replacing it no other part of this program may save."""
    data_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(data_dir() / ".lock"):
        yield
