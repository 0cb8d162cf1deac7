"""Room on a disk: asked for before a long work, and a full disk told in a sentence wherever one writes."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from nanochat_core.system.words import size

NO_ROOM = {errno.ENOSPC, errno.EFBIG, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])}
"""Numbers of the system's errors when nothing more can be written."""
_ALMOST_FULL_BYTES = 1 << 16


class DiskFull(OSError):
    """Nothing more can be written; the message says where, how much was needed and how much is free.

    For those who tell it in a sentence of their own it has what every error of the system has.
    """

    def __init__(
        self, message: str, number: int = errno.ENOSPC, why: str = "the disk is full", path: Path | None = None
    ):
        super().__init__(message)
        self.errno, self.strerror, self.filename = number, why, path

    def __str__(self) -> str:
        return str(self.args[0])


def free_bytes(path: Path) -> int:
    """Bytes that an ordinary user may still write beside `path`, which need not exist yet."""
    folder = path.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def is_full(path: Path) -> bool:
    """Whether not even a short last word can be written beside `path`."""
    return free_bytes(path) < _ALMOST_FULL_BYTES


@contextlib.contextmanager
def writing(path: Path, needed: int) -> Iterator[None]:
    """Within it, an error that comes from a full disk, a used-up quota or a limit on files becomes DiskFull.

    needed: bytes of what is written. Libraries hide the system's error behind their own, so its causes are looked at.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFull) or _number(error) not in NO_ROOM:
            raise
        number = _number(error) or errno.ENOSPC
        why = "a limit on the size of files is reached" if number == errno.EFBIG else "the disk is full"
        said = f"{path} cannot be written: {why}. It needs {size(needed)}, and {size(free_bytes(path))} are free there."
        raise DiskFull(said, number, why, path) from error


def need_room(folder: Path, needed: int, what: str) -> None:
    """ValueError when less than `needed` bytes are free where `folder` lies or will lie. what: what needs them."""
    free = free_bytes(folder)
    if free < needed:
        raise ValueError(
            f"{what} needs {size(needed)} in {folder}, and {size(free)} are free there. Free some space, or put the "
            "models on another disk: set NANOCHAT_STUDIO_HOME to a folder there."
        )


def _number(error: BaseException | None) -> int | None:
    """The number of the system's error behind `error`."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def cap(path: Path, most: int) -> None:
    """Drop the oldest half of a file of lines that has more than `most` bytes, and say so in its first line.

    In place, for a process that appends to it goes on to do so (what it writes in that moment may be lost).
    """
    try:
        with open(path, "r+b") as file:
            length = os.fstat(file.fileno()).st_size
            if length <= most:
                return
            file.seek(length - most // 2)
            file.readline()  # the rest of a line that was cut
            kept = file.read()
            file.seek(0)
            file.write(f"[The oldest part was dropped here: the log had more than {size(most)}.]\n".encode())
            file.write(kept)
            file.truncate()
    except OSError:
        return  # a log that cannot be shortened is no reason to end a training
