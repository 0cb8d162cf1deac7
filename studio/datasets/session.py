"""A dataset while it is edited: its rows on the server, edits with undo, and nothing on disk until Save.

The browser holds only a session's id. One lock a session: two clicks that arrive together both count.
"""

import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from nanochat_core.system.files import sha256_of
from nanochat_core.system.words import plural
from studio.datasets import drafts, files, index
from studio.datasets.fixes import fixed
from studio.datasets.importing import Imported
from studio.datasets.importing import read_lines as read_lines
from studio.datasets.index import Query
from studio.datasets.journal import Journal, journalled
from studio.datasets.rows import Rows

MAX_UNDO = 200


class _Step:
    """What undo puts back: the lines of the rows that were replaced, and the order if it was another one."""

    def __init__(self, what: str, before: dict[int, bytes], order: list[int] | None, key: object = None):
        self.what, self.before, self.order, self.key = what, before, order, key


class Session:
    """An opened dataset. Every public method takes the lock."""

    def __init__(
        self, name: str, imported: Imported, path: Path | None = None, sha: str | None = None, session_id: str = ""
    ):
        self.id = session_id or secrets.token_urlsafe(9)
        self.lock = threading.RLock()
        self.used = time.monotonic()
        self.name = name
        """The file's name, or the one proposed for a dataset that is not saved yet."""
        self.path = path
        """The file on disk; None for a new one and for an example, which are saved under a name of their own."""
        self.sha = sha
        """SHA-256 of the file on disk when it was opened or saved last."""
        self.example: tuple[Path, str] | None = None
        """The shipped file whose copy this is, and its SHA-256 when it was read."""
        self.notes = imported.notes
        self.rows = Rows(imported.lines)
        self.changed: set[int] = set()
        """Rows that differ from the file."""
        self.field_names: dict[int, tuple[bytes, list[Any]]] = {}
        """By row: the line, and the names of its fields on the page (studio.datasets.fields)."""
        self.journal: Journal | None = None
        """Writes the unsaved changes to disk; None for a session that is not kept."""
        self._undo: list[_Step] = []
        self._steps_at_save = -1 if imported.is_converted or not imported.lines else 0
        self._found: tuple[object, list[int]] = (None, [])

    # Asking

    @property
    def is_dirty(self) -> bool:
        """Whether there is something that is not on disk."""
        return len(self._undo) != self._steps_at_save

    @property
    def undo_label(self) -> str:
        """What undo would take back; "" for nothing."""
        return self._undo[-1].what if self._undo else ""

    @property
    def on_disk(self) -> tuple[Path, str] | None:
        """(file, SHA-256) that holds all of it; None when there are changes, or no such file."""
        if self.is_dirty:
            return None
        return (self.path, self.sha) if self.path and self.sha else self.example

    def is_outdated(self) -> bool:
        """Whether the file has changed on disk while nothing was changed here. With changes, saving tells."""
        if self.path is None or self.is_dirty:
            return False
        try:
            return sha256_of(self.path) != self.sha
        except FileNotFoundError:
            return False  # what is on the screen is then the last copy

    def find(self, query: Query, max_seq_len: int) -> list[int]:
        """The rows that match; searched once, not again for each page of the result."""
        with self.lock:
            key = (query, max_seq_len, self.rows.version)
            if self._found[0] != key or query.show == "cut" or "tokens" in query.sort:
                self._found = (key, index.find(self.rows, query, self.changed, max_seq_len))
            return self._found[1]

    def has(self, row: int | None) -> TypeGuard[int]:
        """Whether this row is there and was not deleted."""
        return (
            row is not None and 0 <= row < len(self.rows.data) and bool(self.rows.data[row]) and row in self.rows.order
        )

    # Changing

    @journalled
    def set_line(self, row: int, data: bytes, what: str, key: object = None) -> None:
        """Replace a row's line. Changes one after the other with the same `key` (typing in one field) are one step."""
        with self.lock:
            if self.rows.data[row] == data:
                return
            if key is None or not self._undo or self._undo[-1].key != key:
                self._push(_Step(what, {row: self.rows.data[row]}, None, key))
            self._replace(row, data)

    @journalled
    def insert(self, data: bytes, after: int | None, what: str) -> int:
        """A new row behind `after` (None: at the end); its id."""
        with self.lock:
            place = len(self.rows.order) if after is None else self.rows.order.index(after) + 1
            self._push(_Step(what, {}, list(self.rows.order)))
            row = self._add(data)
            self.rows.order.insert(place, row)
            return row

    @journalled
    def remove(self, rows: Sequence[int], what: str) -> None:
        """Delete rows."""
        with self.lock:
            gone = set(rows)
            self._push(_Step(what, {}, list(self.rows.order)))
            self.rows.order = [row for row in self.rows.order if row not in gone]
            self.rows.version += 1

    @journalled
    def fix(self, rows: Sequence[int], kind: str) -> int:
        """Apply the rule for a kind of problem to these rows, as one step; how many it could fix."""
        with self.lock:
            results = {row: lines for row in rows if (lines := fixed(self.rows.data[row], kind)) is not None}
            if not results:
                return 0
            before = {row: self.rows.data[row] for row, lines in results.items() if lines}
            self._push(_Step(f"fixing {plural(len(results), 'line')}", before, list(self.rows.order)))
            order = []
            for row in self.rows.order:
                lines = results.get(row)
                if lines is None:
                    order.append(row)
                elif lines:
                    self._replace(row, lines[0])
                    order += [row, *(self._add(line) for line in lines[1:])]
            self.rows.order = order
            self.rows.version += 1
            return len(results)

    @journalled
    def replace_all(self, lines: Sequence[tuple[int, bytes]], what: str) -> None:
        """Other lines in place of all, as one step."""
        with self.lock:
            self._push(_Step(what, {}, list(self.rows.order)))
            self.rows.order = [self._add(data) for _, data in lines]
            self.rows.version += 1

    @journalled
    def undo(self) -> str:
        """Take the last step back; what it was, "" when there is none."""
        with self.lock:
            if not self._undo:
                return ""
            step = self._undo.pop()
            for row, data in step.before.items():
                self._replace(row, data)
            if step.order is not None:
                self.rows.order = step.order
                self.rows.version += 1
            return step.what

    def _replace(self, row: int, data: bytes) -> None:
        self.rows.replace(row, data)
        self._touch(row)

    def _add(self, data: bytes) -> int:
        row = self.rows.add(data)
        self._touch(row)
        return row

    def _touch(self, row: int) -> None:
        self.changed.add(row)
        if self.journal:
            self.journal.touched.add(row)

    def _push(self, step: _Step) -> None:
        if len(self._undo) < self._steps_at_save:
            self._steps_at_save = -1  # what was saved cannot be reached by undo any more
        self._undo.append(step)
        if len(self._undo) > MAX_UNDO:
            del self._undo[0]
            self._steps_at_save -= 1
        self.used = time.monotonic()

    def mark_new(self) -> None:
        """The lines are on no disk yet, so that there is something to save."""
        self._steps_at_save = -1

    # Saving

    def save(self) -> Path:
        """Write the dataset to its file, or a new dataset to its first; ConflictError as `data_files.save`."""
        with self.lock:
            return self.save_as(self.name) if self.path is None else self._write(self.path, self.sha)

    def save_as(self, name: str) -> Path:
        """Write to a dataset that does not exist yet, and keep working on that one."""
        with self.lock:
            target = files.data_dir() / files.checked_name(name)
            if files.free_path(name) != target:
                raise files.ConflictError(f"There is already a dataset {target.name}. Save under another name.")
            return self._write(target, None)

    def _write(self, path: Path, expected_sha: str | None) -> Path:
        if not self.rows.order:
            raise ValueError("There is no conversation to save. Add one first.")
        self.sha = files.save(path, self.write_to, expected_sha)
        self.path, self.name = path, path.name
        self._steps_at_save = len(self._undo)
        self.changed.clear()
        self.notes = []
        if self._undo:
            self._undo[-1].key = None  # typing after a save is a step of its own
        self.rows.number_lines()
        if self.journal:
            self.journal.drop()
        return path

    def moved_to(self, path: Path) -> None:
        """The file has another name now."""
        with self.lock:
            self.path, self.name = path, path.name
            if self.journal and self.journal.draft.is_begun:
                self.journal.draft.rewrite(name=path.name, file=path.name)

    def draft_meta(self) -> drafts.Meta:
        """What is open, as a draft of it has to know it."""
        ids, lines = list(self.rows.order), [self.rows.line[row] for row in self.rows.order]
        return drafts.Meta(
            name=self.name,
            file=self.path.name if self.path else None,
            sha=self.sha,
            is_new=self._steps_at_save < 0,
            ids=None if ids == list(range(len(ids))) else ids,
            lines=None if lines == list(range(1, len(ids) + 1)) else lines,
            notes=self.notes,
        )

    def restore(self, state: drafts.State, what: str) -> None:
        """Apply a draft to what was opened, as one step that undo takes back."""
        with self.lock:
            assert self.journal is not None
            base, is_changed = list(self.rows.order), bool(state.rows) or state.order != self.rows.order
            known = {row: self.rows.data[row] for row in state.rows if row < len(self.rows.data)}
            if is_changed:
                self._push(_Step(what, {row: data for row, data in known.items() if data}, base))
            while len(self.rows.data) <= max(state.rows, default=0):
                self.rows.add(b"")
            for row, data in state.rows.items():
                self._replace(row, data)
            self.rows.order = list(state.order)
            self.rows.version += 1
            self.journal.resume(base, set(state.rows))
            self.journal.touched = set()

    def write_to(self, file: BinaryIO) -> None:
        """The lines as they would be saved."""
        for row in self.rows.order:
            file.write(self.rows.data[row])
            file.write(b"\n")
