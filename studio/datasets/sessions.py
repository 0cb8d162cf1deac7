"""The opened datasets of this app: open, create, find again, and restore what another run of the app left unsaved."""

import contextlib
import threading
import time
from collections import OrderedDict
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
"""Sessions kept in memory; beyond that the one that was unused for longest goes, those without changes first. The
unsaved changes of one that goes stay on disk."""
FOUND_AGAIN = "the changes found again"

_sessions: OrderedDict[str, Session] = OrderedDict()
_lock = threading.RLock()


def keep(session: Session) -> Session:
    """Remember a session and write its unsaved changes to disk from now on."""
    with _lock:
        if session.journal is None:
            session.journal = Journal(session.id, session.rows)
            if session.is_dirty and session.path is None:
                session.journal.begin(session.draft_meta)  # an upload is nowhere else
        _sessions[session.id] = session
        while len(_sessions) > MAX_SESSIONS:
            others = [other for other in _sessions.values() if other is not session]
            oldest = min(others, key=lambda other: (other.is_dirty, other.used))
            del _sessions[oldest.id]
    return session


def get(session_id: str | None) -> Session | None:
    """The session; after a restart of the app the one that its draft on disk comes to. None for neither."""
    with _lock:
        session = _sessions.get(session_id or "")
        if session is None and session_id and (draft := drafts.found(session_id)):
            with contextlib.suppress(OSError, ValueError):  # gone or broken meanwhile: then there is nothing to find
                session = _restored(draft)
        if session:
            session.used = time.monotonic()
        return session


def close(session: Session) -> None:
    """Forget a session; its draft, if any, stays where it is."""
    with _lock:
        _sessions.pop(session.id, None)


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
        return keep(Session(files.free_path(f"my_{dataset.name}").name, imported))
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


def _restored(draft: Found) -> Session:
    """The session as it was, with the changes as one step of undo. Rows and session keep their ids."""
    meta, state = draft.meta, drafts.read(draft)
    ids = drafts.base_ids(draft, state.base)
    lines = [(0, b"")] * (max(ids, default=-1) + 1)
    for place, (row, data) in enumerate(zip(ids, state.base, strict=True)):
        lines[row] = (meta.lines[place] if meta.lines else place + 1, data)
    session = Session(
        meta.name, Imported(lines, [*meta.notes, _note(draft)], is_converted=False), draft.path, meta.sha, draft.id
    )
    session.rows.order = ids
    if meta.is_new:
        session.mark_new()
    session.journal = Journal(session.id, session.rows)
    session.restore(state, FOUND_AGAIN)
    if not session.is_dirty:
        session.journal.drop()
    return keep(session)


def _note(draft: Found) -> str:
    when = draft.time.astimezone()
    said = f"Your unsaved changes of {when:%d %B, %H:%M} were found again; undo takes them back."
    return f"{said} {stale_words(draft)}".strip()


def stale_words(draft: Found) -> str:
    """What to know when the file is another one by now; "" when it is the same."""
    if not draft.is_stale:
        return ""
    return f"{draft.meta.file} has changed on disk since: Save will ask you for another name, so that nothing is lost."
