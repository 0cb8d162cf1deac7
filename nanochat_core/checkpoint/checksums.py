"""The SHA-256 beside each file of a checkpoint: written with it, compared when the file is used.

A damaged byte in weights or in an optimizer's state shows in nothing but worse replies. A file is read for this once;
while its size and time stay the same, the digest that it had is taken from a note in the models' folder.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from nanochat_core.paths import home
from nanochat_core.system.files import read_json, sha256_of, write_atomically, write_json

_NOTED_FILES = 500


def checksum_path(path: Path) -> Path:
    """Where a file's SHA-256 lies, in the format of sha256sum."""
    return path.with_name(f"{path.name}.sha256")


def write_with_checksum(path: Path, content: bytes | Callable[[BinaryIO], Any], size: int = 0) -> None:
    """Write `path` as `write_atomically` does, its checksum after it: a file without one is compared with nothing."""
    checksum_path(path).unlink(missing_ok=True)
    write_atomically(path, content, size)
    write_checksum(path)


def write_checksum(path: Path) -> None:
    """Note what a file that was just written holds."""
    write_atomically(checksum_path(path), f"{sha256_of(path)}  {path.name}\n".encode())


def verify_checksum(path: Path, remedy: str = "Use another checkpoint.") -> None:
    """ValueError when `path` does not have the SHA-256 that lies beside it; nothing where none does."""
    try:
        expected = checksum_path(path).read_text(encoding="utf-8").split()[0]
    except (FileNotFoundError, IndexError, UnicodeDecodeError):
        return  # no checksum: not written by us, or what is left of one after a crash
    if path.is_file() and expected != digest(path):
        raise ValueError(f"{path} has changed since it was saved (its SHA-256 differs). {remedy}")


def remove_with_checksum(path: Path) -> None:
    """Delete a file and its checksum; the checksum last, so that none is ever beside a file of another content."""
    path.unlink(missing_ok=True)
    checksum_path(path).unlink(missing_ok=True)


def digest(path: Path) -> str:
    """SHA-256 of a file, which is read again only when its size or time has changed."""
    facts = path.stat()
    mark = [facts.st_size, facts.st_mtime_ns, facts.st_ino]
    notes = home() / "models" / ".checksums.json"
    noted = read_json(notes)
    known = noted.get(str(path.absolute()))
    if isinstance(known, list) and known[:-1] == mark:
        return str(known[-1])
    digest = sha256_of(path)
    entries = {**noted, str(path.absolute()): [*mark, digest]}
    with contextlib.suppress(OSError):  # a folder that cannot be written: it is read again the next time
        write_json(notes, dict(list(entries.items())[-_NOTED_FILES:]))
    return digest
