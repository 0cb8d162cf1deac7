"""The opened datasets of this app: open, create, find again, and restore what another run of the app left unsaved."""

import contextlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from nanochat_core.system.files import sha256_of
from studio.datasets import drafts, files
from studio.datasets.apart import read_apart
from studio.datasets.drafts import Found
from studio.datasets.edit import blank_conversation
from studio.datasets.importing import Imported, read_lines
from studio.datasets.journal import Journal
from studio.datasets.session import Session

MAX_SESSIONS = 12
"""Sessions with unsaved changes that are kept in memory, and as many without. Beyond that the one goes that was unused
for longest, and comes back when it is asked for: from its draft, or from the file it was read from."""
MAX_PUT_AWAY = 1000
"""Of how many sessions without changes is known where they were read from."""
FOUND_AGAIN = "the changes found again"

_sessions: OrderedDict[str, Session] = OrderedDict()
_put_away: OrderedDict[str, "_PutAway"] = OrderedDict()
_lock = threading.RLock()


def keep(session: Session) -> Session:
    """Remember a session and write its unsaved changes to disk from now on."""
    with _lock:
        if session.journal is None:
            session.journal = Journal(session.id, session.rows)
            if session.is_dirty and session.path is None:
                session.journal.begin(session.draft_meta)  # an upload is nowhere else
        _sessions[session.id] = session
        session.used = time.monotonic()
        for is_dirty in (True, False):  # each for itself: no person's changes may push out what another one reads
            alike = [other for other in _sessions.values() if other.is_dirty == is_dirty]
            for oldest in sorted(alike, key=lambda other: other.used)[: max(len(alike) - MAX_SESSIONS, 0)]:
                _put(oldest)
    return session


def _put(session: Session) -> None:
    del _sessions[session.id]
    if where := session.on_disk:
        _put_away[session.id] = _PutAway(*where, session.path, session.example, session.draft_meta())
        while len(_put_away) > MAX_PUT_AWAY:
            _put_away.popitem(last=False)


def get(session_id: str | None) -> Session | None:
    """The session, also one that went from memory, or that was open before a restart of the app and has a draft.

    None when there is none: no draft, and the file has changed since or is gone.
    """
    with _lock:
        session = _sessions.get(session_id or "")
        if session is None and session_id:
            with contextlib.suppress(OSError, ValueError):  # gone or broken meanwhile: then there is nothing to find
                session = _found_again(session_id)
        if session:
            session.used = time.monotonic()
        return session


def close(session: Session) -> None:
    """Forget a session; its draft, if any, stays where it is."""
    with _lock:
        _sessions.pop(session.id, None)
        _put_away.pop(session.id, None)


def is_open(session_id: str) -> bool:
    """Whether this session is still held in memory."""
    with _lock:
        return session_id in _sessions


def open_dataset(dataset: files.Dataset) -> Session:
    """Open a file of data/. An example is opened as a copy that has no file of its own yet."""
    sha = sha256_of(dataset.path)
    imported = read_lines(dataset.path, convert=False)  # its foreign records are problems, with a fix for all of them
    if sha256_of(dataset.path) != sha:
        raise ValueError(f"{dataset.name} was changed while it was being read. Open it again.")
    if dataset.is_shipped:
        copy = Session(files.free_path(f"my_{dataset.name}").name, imported)
        copy.example = (dataset.path, sha)
        return keep(copy)
    return keep(Session(dataset.name, imported, dataset.path, sha))


def open_upload(path: Path, file_name: str) -> Session:
    """Show an uploaded file of any format as a dataset that is not saved yet."""
    imported = read_apart(path, file_name)
    if not imported.lines:
        raise ValueError(f"{file_name} holds no conversation. Choose another file.")
    session = Session(files.free_path(files.name_from(file_name)).name, imported)
    session.mark_new()
    return keep(session)


def create(name: str) -> Session:
    """A new dataset with one conversation to fill in; it is on disk once it is saved."""
    target = files.data_dir() / files.checked_name(name)
    if files.free_path(name) != target:
        raise ValueError(f"There is already a dataset {target.name}. Choose another name.")
    session = Session(target.name, Imported([(1, blank_conversation())], [], is_converted=False))
    session.mark_new()
    session.rows.line[0] = 0
    return keep(session)


# Unsaved work of before


def drafts_of(path: Path | None) -> list[Found]:
    """Unsaved changes of a file (None: of datasets that were never saved) that are open nowhere, newest first."""
    return [draft for draft in drafts.list_drafts() if draft.path == path and not is_open(draft.id)]


def restore(draft_id: str) -> Session:
    """Open a draft. ValueError when it is gone."""
    session = get(draft_id)
    if session is None:
        raise ValueError("These unsaved changes are not there any more: restored or discarded in another window.")
    return session


def discard(draft_id: str) -> Path:
    """Move a draft to data/.trash; where it lies then. ValueError when it is gone, or open."""
    draft = drafts.found(draft_id)
    if draft is None or is_open(draft_id):
        raise ValueError("These unsaved changes are not there any more: restored or discarded in another window.")
    return drafts.discard(draft)


def _found_again(session_id: str) -> Session | None:
    if draft := drafts.found(session_id):
        return _restored(draft)
    away = _put_away.pop(session_id, None)
    return _read_again(away, session_id) if away else None


@dataclass(frozen=True)
class _PutAway:
    """A session without changes that is not in memory."""

    file: Path
    sha: str
    path: Path | None
    example: tuple[Path, str] | None
    meta: drafts.Meta


def _read_again(away: _PutAway, session_id: str) -> Session | None:
    lines = [data for _, data in read_lines(away.file, convert=False).lines]
    if sha256_of(away.file) != away.sha:
        return None
    ids = list(range(len(lines))) if away.meta.ids is None else away.meta.ids
    session = _with_ids(away.meta, ids, lines, away.path, session_id)
    session.example = away.example
    return keep(session)


def _restored(draft: Found) -> Session:
    """The session as it was, with the changes as one step of undo. Rows and session keep their ids."""
    meta, state = draft.meta, drafts.read(draft)
    session = _with_ids(meta, drafts.base_ids(draft, state.base), state.base, draft.path, draft.id)
    session.notes = [*meta.notes, _note(draft)]
    if meta.is_new:
        session.mark_new()
    session.journal = Journal(session.id, session.rows)
    session.restore(state, FOUND_AGAIN)
    if not session.is_dirty:
        session.journal.drop()
    return keep(session)


def _with_ids(meta: drafts.Meta, ids: list[int], base: list[bytes], path: Path | None, session_id: str) -> Session:
    lines = [(0, b"")] * (max(ids, default=-1) + 1)
    for place, (row, data) in enumerate(zip(ids, base, strict=True)):
        lines[row] = (meta.lines[place] if meta.lines else place + 1, data)
    session = Session(meta.name, Imported(lines, meta.notes, is_converted=False), path, meta.sha, session_id)
    session.rows.order = ids
    return session


def _note(draft: Found) -> str:
    when = draft.time.astimezone()
    said = f"Your unsaved changes of {when:%d %B, %H:%M} were found again; undo takes them back."
    return f"{said} {stale_words(draft)}".strip()


def stale_words(draft: Found) -> str:
    """What to know when the file is another one by now; "" when it is the same."""
    if not draft.is_stale:
        return ""
    return f"{draft.meta.file} has changed on disk since: Save will ask you for another name, so that nothing is lost."
