"""The data that a run was trained on, kept in its folder: the file itself is edited afterwards.

Compressed, about a fifth of the file's size, and not linked to it: an editor may write into the file as it lies there.
"""

import gzip
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.run import Run
from nanochat_core.system.disk import DiskFull
from nanochat_core.system.files import sha256_of, write_atomically

_LEVEL = 3  # twice as fast as the default, for a tenth more


def keep_data(run: Run, data: Path) -> str | None:
    """Copy the data file into the run's folder, unless that is done. A sentence when the disk has no room for it."""
    if run.data_file.is_file():
        return None

    def write(file: BinaryIO) -> None:
        with (
            open(data, "rb") as source,
            gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0) as packed,
        ):
            shutil.copyfileobj(source, cast(BinaryIO, packed), 1 << 20)

    try:
        write_atomically(run.data_file, write)
    except (DiskFull, OSError) as error:
        return f"The run keeps no copy of its data ({error}): which rows taught it can be told while the file stays."
    return None


def copy_data(run: Run, to: Path) -> None:
    """Write the data as the run was trained on it to a new file. ValueError when it is nowhere any more."""
    with opened_data(run) as source:
        write_atomically(to, lambda file: shutil.copyfileobj(source, file, 1 << 20))
    if sha256_of(to) != data_key(run):  # the file was edited while the run copied it
        to.unlink()
        raise _nowhere(run)


def with_files_as_they_were(run: Run, config: FinetuneConfig, say: Callable[[str], None]) -> FinetuneConfig:
    """The settings of a run, with files that hold what it began with: its order and split hold for that alone.

    Data that was edited or deleted since is the run's own copy, unpacked, and that is said. ValueError when data or
    replay are nowhere as they were.
    """
    data = _as_it_was(run, Path(config.data_path))
    if data != Path(config.data_path):
        say(f"{config.data_path} is not what run '{run.tag}' began with any more: it is trained on its own copy.")
    known, replay = run.record().get("data", {}).get("replay_sha256"), Path(config.replay_path or "")
    if known and (not replay.is_file() or sha256_of(replay) != known):
        raise ValueError(
            f"The replay file {replay} is gone or has changed since run '{run.tag}' was made. Put the old content "
            "back, or start a new run under another output_tag."
        )
    return replace(config, data_path=str(data))


def _as_it_was(run: Run, path: Path) -> Path:
    if path.is_file() and sha256_of(path) == data_key(run):
        return path
    copy_data(run, run.unpacked_data_file)
    return run.unpacked_data_file


def kept_lines(run: Run) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of each line of the run's data that is not empty, as it was when it was trained on.

    Without a copy in the run, as of a run of before, the data file is read, as long as it is the same. ValueError when
    neither is there.
    """
    with opened_data(run) as file:
        for number, line in enumerate(file, 1):
            if stripped := line.strip():
                yield number, stripped


def data_key(run: Run) -> str:
    """The SHA-256 of the run's data."""
    return str(run.record().get("data", {}).get("sha256", ""))


def data_path(run: Run) -> Path:
    """Where the run's data was when it was made."""
    return Path(run.record().get("data", {}).get("path", ""))


def opened_data(run: Run) -> BinaryIO:
    """The data as the run was trained on it. ValueError when it is nowhere any more."""
    if run.data_file.is_file():
        return cast(BinaryIO, gzip.open(run.data_file, "rb"))
    path = data_path(run)
    if not path.is_file() or sha256_of(path) != data_key(run):
        raise _nowhere(run)
    return open(path, "rb")


def _nowhere(run: Run) -> ValueError:
    path = data_path(run)
    why = f"has changed since run '{run.tag}' was made" if path.is_file() else f"of run '{run.tag}' is gone"
    return ValueError(
        f"The data file {path} {why}, and the run has no copy of it. Put the old content back, or start a new run "
        "under another output_tag."
    )
