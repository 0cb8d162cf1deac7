"""The data that a run was trained on, kept in its folder: the file itself is edited afterwards.

Compressed, about a fifth of the file's size, and not linked to it: an editor may write into the file as it lies there.
"""

import gzip
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from nanochat_core.runs.run import Run
from nanochat_core.system.disk import DiskFull
from nanochat_core.system.files import write_atomically

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


def kept_lines(run: Run) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of each line of the run's data that is not empty, as it was when it was trained on.

    Without a copy in the run, as of a run of before, the data file is read, as long as it is the same. ValueError when
    neither is there.
    """
    with _opened(run) as file:
        for number, line in enumerate(file, 1):
            if stripped := line.strip():
                yield number, stripped


def data_key(run: Run) -> str:
    """The SHA-256 of the run's data."""
    return str(run.record().get("data", {}).get("sha256", ""))


def _opened(run: Run) -> BinaryIO:
    if run.data_file.is_file():
        return cast(BinaryIO, gzip.open(run.data_file, "rb"))
    path = Path(run.record().get("data", {}).get("path", ""))
    if not path.is_file():
        raise ValueError(f"The data file {path} of run '{run.tag}' is gone, and the run kept no copy. Put it back.")
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != data_key(run):
            raise ValueError(
                f"The data file {path} has changed since run '{run.tag}' was made, and it kept no copy. Train again."
            )
    return open(path, "rb")
