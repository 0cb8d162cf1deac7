"""Keeps an opened dataset's draft in step with it: what was opened before the first change, and then every change."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from studio.datasets.drafts import Draft, Meta, splice_of
from studio.datasets.rows import Rows


class Journal:
    """One session's way to its draft. Not locked: the session that owns it is."""

    def __init__(self, session_id: str, rows: Rows) -> None:
        self.draft = Draft(session_id)
        self.touched: set[int] = set()
        """Rows that the change under way has replaced or added."""
        self.fault = ""
        """Why the changes are not kept on disk, as a sentence; "" when they are."""
        self._rows = rows
        self._changed: set[int] = set()
        self._base: list[int] = []
        self._in_base: set[int] = set()
        self._noted: list[int] = []

    def begin(self, meta: Callable[[], Meta]) -> None:
        """Before a change: write down what was there, unless that is done."""
        if not self.draft.is_begun:
            self._start(list(self._rows.order), set())
            self._try(lambda: self.draft.begin(meta(), (self._rows.data[row] for row in self._rows.order)))

    def resume(self, base: list[int], changed: set[int]) -> None:
        """Resume a draft whose rows have been restored."""
        self._start(base, changed)
        self._try(self.draft.resume)

    def _start(self, base: list[int], changed: set[int]) -> None:
        self._base, self._in_base, self._changed = base, set(base), changed
        self._noted = list(self._rows.order)

    def note(self) -> None:
        """After a change: append it."""
        rows, self.touched = self.touched, set()
        if self.draft.is_begun:
            splice = splice_of(self._noted, self._rows.order)
            if splice:
                self._noted = list(self._rows.order)
                rows |= set(splice[2]) - self._in_base - self._changed  # undo brings back what a save had left out
            self._changed |= rows
            self._try(lambda: self.draft.note({row: self._rows.data[row] for row in sorted(rows)}, splice))
            if self.draft.is_long:
                self._try(self._compact)

    def _compact(self) -> None:
        rows = {row: self._rows.data[row] for row in sorted(self._changed)}
        self.draft.compact(rows, splice_of(self._base, self._noted))

    def drop(self) -> None:
        """Everything is on disk, or undone."""
        self.draft.drop()
        self.touched, self.fault = set(), ""

    def _try(self, write: Callable[[], None]) -> None:
        """A full disk must not stop the editing; it is said beside the dataset's name."""
        try:
            write()
            self.fault = ""
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            self.fault = f"Your unsaved changes cannot be kept on disk ({why}): a crash would lose them. Save soon."


def journalled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A session's method that changes it: under its lock, with the draft kept in step."""

    @wraps(function)
    def changing(self: Any, *arguments: Any, **named: Any) -> Any:
        with self.lock:
            if self.journal:
                self.journal.begin(self.draft_meta)
            result = function(self, *arguments, **named)
            if self.journal and not self.is_dirty:
                self.journal.drop()
            elif self.journal:
                self.journal.note()
            return result

    return changing
