"""Files that no crash leaves half written (temporary name, fsync, rename), and folders for work in progress."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from nanochat_core.system.disk import writing

CHUNK_BYTES = 1 << 20


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], Any], size: int = 0) -> None:
    """Replace `path` by `content` (bytes, or a function that writes to an open binary file), all or nothing.

    The data is on the disk before the name is, and the folder entry too, so that a power cut leaves the old
    file or the new one. The temporary file lies beside the target and is removed when writing fails.
    size: bytes that a function will write, as far as they are known. DiskFull when there is no room for it.
    """
    path = Path(path)
    with writing(path, size or (0 if callable(content) else len(content))):
        _write(path, content)
    sync_folder(path.parent)


def _write(path: Path, content: bytes | Callable[[BinaryIO], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        error.filename = str(path)  # the temporary name says nothing to the person who is told
        raise
    try:
        with os.fdopen(descriptor, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable; systems that cannot open a folder (Windows) do this by themselves."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")


def remove_leftovers(folder: Path, older_than: float = 24 * 3600.0) -> None:
    """Remove temporary files in `folder` that a killed process left; one that is being written is younger (seconds)."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if (
                _TEMPORARY.fullmatch(entry.name)
                and time.time() - entry.stat(follow_symlinks=False).st_mtime > older_than
            ):
                os.unlink(entry.path)


def check_new(out: Path) -> None:
    """ValueError when `out` exists already, or cannot because its folder does not."""
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} exists already. Give the new file another name: nothing is ever overwritten.")
    if not out.parent.is_dir():
        raise ValueError(f"There is no folder {out.parent}. Make it first, or choose another place.")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text.encode("utf-8"))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hex digits, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def now() -> str:
    """The time as text that sorts: ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()


def read_json(path: Path) -> dict[str, Any]:
    """The file's table; empty when it is not there or not one (a foreign or half-made folder)."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def last_lines(path: Path, n: int) -> str:
    """The last `n` lines (of the last 1000 n bytes), empty without a file; of a progress bar only its last state."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - 1000 * n)
        file.seek(start)
        text = file.read().decode("utf-8", errors="replace").replace("\r\n", "\n")
    found = [line.rsplit("\r", 1)[-1] for line in text.rstrip("\r\n").split("\n")]
    return "\n".join(found[1:][-n:] if start and len(found) > 1 else found[-n:])


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
