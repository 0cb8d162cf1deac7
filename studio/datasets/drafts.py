"""Unsaved edits on disk: each change is appended to a journal, so that a crash of the app loses none of them.

A draft is a folder data/.drafts/<session>/ with what was opened (base.jsonl and meta.json) and what was done since
(journal.jsonl, one JSON object for each changed line or piece of the order). It goes with the save, or with the undo
of everything.
"""

import base64
import contextlib
import json
import os
import re
import shutil
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nanochat_core.system.files import sha256_of, write_atomically, write_json
from nanochat_core.system.processes import ProcessIdentity, identity, is_alive
from studio.datasets.files import data_dir

COMPACT_BYTES = 8 << 20
"""A journal that has grown by more than this is written again with the last state of each line only."""

_ID = re.compile(r"[\w-]{8,24}")
_META, _BASE, _JOURNAL = "meta.json", "base.jsonl", "journal.jsonl"

Splice = tuple[int, int, list[int]]
"""(place, how many rows go, which come) that makes one order of rows of another."""


@dataclass(frozen=True)
class Meta:
    """What was opened."""

    name: str
    file: str | None
    """Name of the file in data/; None for a dataset that was never saved."""
    sha: str | None
    is_new: bool
    """Whether the opened lines themselves are on no disk yet."""
    ids: list[int] | None
    """The rows of base.jsonl; None for 0, 1, 2 and so on."""
    lines: list[int] | None
    """Where those were in the file that was opened; None for 1, 2, 3 and so on."""
    notes: list[str] = field(default_factory=list)
    owner: dict[str, Any] = field(default_factory=dict)
    """The app that writes it, so that another one leaves it alone while that one lives."""


@dataclass(frozen=True)
class Found:
    """A draft that can be restored."""

    id: str
    meta: Meta
    time: datetime
    """When the last change was made, UTC."""

    @property
    def is_stale(self) -> bool:
        """Whether the file is not the one any more that was edited."""
        path = self.path
        return path is not None and (not path.exists() or sha256_of(path) != self.meta.sha)

    @property
    def path(self) -> Path | None:
        return data_dir() / self.meta.file if self.meta.file else None


@dataclass(frozen=True)
class State:
    """What a draft comes to."""

    base: list[bytes]
    rows: dict[int, bytes]
    """Lines that are others than in the base, or new, by row."""
    order: list[int]


def drafts_dir() -> Path:
    """The folder of the drafts; hidden, so that they are not taken for datasets."""
    return data_dir() / ".drafts"


class Draft:
    """Writes one session's draft. Not locked: the session that owns it is."""

    def __init__(self, session_id: str) -> None:
        self.folder = drafts_dir() / session_id
        self._journal: Any = None
        self._written = 0

    @property
    def is_begun(self) -> bool:
        return self._journal is not None

    def begin(self, meta: Meta, lines: Iterable[bytes]) -> None:
        """Keep what was opened; before the first change. meta.json comes last: without it there is no draft."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / _BASE, "wb") as file:
            file.writelines(line + b"\n" for line in lines)
        (self.folder / _JOURNAL).write_bytes(b"")
        values = {**asdict(meta), "owner": identity().to_dict()}
        write_json(self.folder / _META, values)
        self._open()

    def resume(self) -> None:
        """Resume a draft that was read from disk."""
        self.rewrite(owner=identity().to_dict())
        self._open()

    def rewrite(self, **changes: Any) -> None:
        """Change what meta.json says."""
        meta = json.loads((self.folder / _META).read_bytes())
        write_json(self.folder / _META, {**meta, **changes})

    def _open(self) -> None:
        self._journal = open(self.folder / _JOURNAL, "ab", buffering=0)  # noqa: SIM115 - for as long as there are edits
        self._written = 0

    def note(self, rows: dict[int, bytes], splice: Splice | None) -> None:
        """Append what changed, in one write: a crash leaves it whole or not at all."""
        if data := _records_of(rows, splice):
            self._written += self._journal.write(data)

    @property
    def is_long(self) -> bool:
        return self._written > COMPACT_BYTES

    def compact(self, rows: dict[int, bytes], splice: Splice | None) -> None:
        """Write the journal again: all changed rows, and the order as a splice of the base's."""
        self._journal.close()
        write_atomically(self.folder / _JOURNAL, _records_of(rows, splice))
        self._open()

    def drop(self) -> None:
        """Nothing is unsaved any more."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
            with contextlib.suppress(FileNotFoundError):
                (self.folder / _META).unlink()
            shutil.rmtree(self.folder, ignore_errors=True)


def _records_of(rows: dict[int, bytes], splice: Splice | None) -> bytes:
    records = [_row_record(row, data) for row, data in rows.items()]
    records += [{"order": splice}] if splice else []
    return b"".join(json.dumps(record).encode("ascii") + b"\n" for record in records)


def _row_record(row: int, data: bytes) -> dict[str, Any]:
    try:
        return {"row": row, "text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"row": row, "bytes": base64.b64encode(data).decode("ascii")}


def splice_of(old: list[int], new: list[int]) -> Splice | None:
    """The one piece in which two orders differ; None when they are equal."""
    if old == new:
        return None
    start = _common(lambda count: old[:count] == new[:count], min(len(old), len(new)))
    rest = min(len(old), len(new)) - start
    end = _common(lambda count: old[len(old) - count :] == new[len(new) - count :], rest)
    return start, len(old) - end - start, new[start : len(new) - end]


def _common(is_equal: Any, limit: int) -> int:
    """The greatest count up to `limit` for which the pieces are equal."""
    return bisect_left(range(1, limit + 1), 1, key=lambda count: not is_equal(count))


# Finding and reading


def found(session_id: str) -> Found | None:
    """The draft of a session, unless there is none, or another app that still runs is writing it."""
    folder = drafts_dir() / session_id
    if not _ID.fullmatch(session_id) or not (folder / _META).is_file():
        return None
    with contextlib.suppress(OSError, ValueError, TypeError):  # half written, or not ours
        meta = Meta(**json.loads((folder / _META).read_bytes()))
        owner = ProcessIdentity.from_dict(meta.owner)
        if owner is not None and owner.pid != os.getpid() and is_alive(owner):
            return None
        journal = (folder / _JOURNAL).stat()
        if journal.st_size or meta.is_new:
            return Found(session_id, meta, datetime.fromtimestamp(journal.st_mtime, UTC))
    return None


def list_drafts() -> list[Found]:
    """Every draft, newest first."""
    names = [entry.name for entry in drafts_dir().iterdir()] if drafts_dir().is_dir() else []
    return sorted(filter(None, map(found, names)), key=lambda draft: draft.time, reverse=True)


def read(draft: Found) -> State:
    """What a draft comes to. A torn last line is skipped."""
    folder = drafts_dir() / draft.id
    base = (folder / _BASE).read_bytes().split(b"\n")[:-1]
    rows: dict[int, bytes] = {}
    order = base_ids(draft, base)
    for record in _records(folder / _JOURNAL):
        if "order" in record:
            place, gone, put = record["order"]
            order[place : place + gone] = put
        else:
            text = record.get("text")
            rows[record["row"]] = base64.b64decode(record["bytes"]) if text is None else text.encode("utf-8")
    return State(base, rows, order)


def base_ids(draft: Found, base: list[bytes]) -> list[int]:
    """The row that each line of the base has."""
    return list(range(len(base))) if draft.meta.ids is None else list(draft.meta.ids)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def discard(draft: Found) -> Path:
    """Move a draft to data/.trash; where it lies then."""
    trash = data_dir() / ".trash"
    trash.mkdir(exist_ok=True)
    target = trash / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-draft-{draft.meta.name.removesuffix('.jsonl')}"
    os.rename(drafts_dir() / draft.id, target)
    return target
