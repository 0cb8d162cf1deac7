"""What the Data tab's buttons do: plain functions from where a person is to where they are then. No gradio here.

`At` is all that the browser holds: ids. The truth is the session on the server and the file on disk.
"""

import itertools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanochat_core.system.words import plural
from studio.datasets import edit, files
from studio.datasets import sessions as data_sessions
from studio.datasets.drafts import Found
from studio.datasets.fields import change as change_turns
from studio.datasets.fields import put_text
from studio.datasets.fixes import ALL
from studio.datasets.importing import read_lines
from studio.datasets.index import Query
from studio.datasets.problems import fixable_rows, rows_with
from studio.datasets.session import Session

At = dict[str, Any]
"""session: id; row: the shown conversation or None; turns: which page of its turns; tick: another number for each
change; source: path of the dataset as Train may use it, "" when it is not on disk."""

NOWHERE: At = {"session": "", "row": None, "turns": 0, "tick": 0, "source": ""}
UNSAVED = "unsaved:"
_ticks = itertools.count(1)


def another_tick() -> int:
    """A number that was never given before."""
    return next(_ticks)


def moved(at: At, **changes: Any) -> At:
    """`at` with changes, and a new tick so that the page is drawn again."""
    is_other = any(name in changes and changes[name] != at[name] for name in ("session", "row"))
    return {**at, **({"turns": 0} if is_other else {}), **changes, "tick": another_tick()}


def session_of(at: At) -> Session:
    """The opened dataset. ValueError when there is none."""
    session = data_sessions.get(at["session"])
    if session is None:
        raise ValueError("No dataset is open: pick one, or upload a file.")
    return session


def row_of(at: At) -> tuple[Session, int]:
    """The opened dataset and the shown conversation. ValueError when there is none, any more."""
    session = session_of(at)
    if not session.has(at["row"]):
        raise ValueError("Pick a conversation in the list first.")
    return session, at["row"]


# Datasets


def choices(opened: list[str]) -> list[tuple[str, str]]:
    """(label, value) of what can be picked: this browser's unsaved work, work of before that was never saved, files."""
    sessions = [data_sessions.get(session_id) for session_id in opened]
    unsaved = [(f"{one.name} (not saved)", UNSAVED + one.id) for one in sessions if one and one.is_dirty]
    for draft in data_sessions.drafts_of(None):
        unsaved.append((f"{draft.meta.name} (not saved, {draft.time.astimezone():%d %B, %H:%M})", UNSAVED + draft.id))
    return unsaved + [(dataset.label, str(dataset.path)) for dataset in files.list_datasets()]


def pick(at: At, value: str) -> At:
    """Open what was picked, or go back to unsaved work. What is open already, and unchanged, stays as it is."""
    if value.startswith(UNSAVED):
        return restore_draft(at, value.removeprefix(UNSAVED))
    session = data_sessions.get(at["session"])
    if session and value == at["source"] and not session.is_dirty and not session.is_outdated():
        return at  # the browser says it twice, and what was typed between would be drawn over
    return open_file(at, value)


def open_file(at: At, value: str) -> At:
    """Open one of the listed datasets."""
    dataset = files.find_dataset(value)
    return opened(at, data_sessions.open_dataset(dataset), str(dataset.path))


def open_line(at: At, wish: list[str]) -> At:
    """Show a line of a dataset, (path, line, ...), that another tab asked for; without a line the dataset alone."""
    if not wish:
        return at
    is_open = data_sessions.get(at["session"]) is not None and at["source"] == wish[0]
    there = at if is_open else pick(at, wish[0])  # with its unsaved changes
    if not wish[1]:
        return there
    session = session_of(there)
    row = next((row for row in session.rows.order if session.rows.line[row] == int(wish[1])), None)
    if row is None:
        raise ValueError(f"{session.name} has no line {wish[1]} any more: it was edited since.")
    return moved(there, row=row)


def open_example(at: At) -> At:
    """The first shipped dataset, for a person who has none yet."""
    return open_file(at, str(next(dataset.path for dataset in files.list_datasets() if dataset.is_shipped)))


def restore_draft(at: At, session_id: str) -> At:
    """Restore unsaved changes; nothing moves when they are on the screen."""
    return at if session_id == at["session"] else opened(at, data_sessions.restore(session_id))


def discard(at: At, draft_id: str) -> tuple[At, str]:
    """Discard unsaved changes of before; where they lie now."""
    where = data_sessions.discard(draft_id)
    return moved(at), f"Moved to data/.trash/{where.name}."


def drafts(at: At) -> list[Found]:
    """The unsaved changes to the opened file that are open nowhere, newest first."""
    session = data_sessions.get(at["session"])
    return data_sessions.drafts_of(session.path) if session and session.path else []


def upload(at: At, path: str, file_name: str = "") -> At:
    """Open a file that the browser sent, under the name that it has there."""
    return opened(at, data_sessions.open_upload(Path(path), file_name or Path(path).name), "")


def create(at: At, name: str) -> At:
    """Open a new dataset that has no conversation yet."""
    return opened(at, data_sessions.create(name), "")


def opened(at: At, session: Session, source: str | None = None) -> At:
    """At a session's first fault, or else at its first conversation."""
    source = str(session.path or "") if source is None else source
    faulty = (row for row in session.rows.order if session.rows.is_faulty(row))
    return moved(at, session=session.id, row=next(faulty, _first(session)), source=source)


def _file_of(at: At) -> files.Dataset:
    session = session_of(at)
    if not at["source"]:
        raise ValueError(f"{session.name} is not on disk yet: save it first.")
    return files.find_dataset(at["source"])


def duplicate(at: At) -> At:
    """A copy of the file on disk, opened."""
    return pick(at, str(files.duplicate(_file_of(at))))


def rename(at: At, name: str) -> At:
    """Rename the file that is open."""
    target = files.rename(_file_of(at), name)
    session_of(at).moved_to(target)
    return moved(at, source=str(target))


def delete(at: At) -> tuple[At, str]:
    """(nowhere, where the file lies now). Work that was never saved is put away as a draft."""
    session = session_of(at)
    if session.path is None and session.is_dirty:
        data_sessions.close(session)
        return discard(NOWHERE, session.id)
    where = files.bin_dataset(_file_of(at))
    return moved(NOWHERE), f"Moved to data/.trash/{where.name}. Take it back from there if you need it."


def download(at: At) -> str:
    """A file with what is on the screen, saved or not, under the dataset's name."""
    session = session_of(at)
    shutil.rmtree(_download_dir() / session.id, ignore_errors=True)
    target = _download_dir() / session.id / session.name
    target.parent.mkdir(parents=True)
    with open(target, "wb") as file, session.lock:
        session.write_to(file)
    return str(target)


def _download_dir() -> Path:
    return Path(tempfile.gettempdir()) / "nanochat-studio-downloads"


# Saving


def save(at: At) -> At:
    """Save to the opened file. ConflictError when it has changed on disk meanwhile."""
    session = session_of(at)
    return moved(at, source=str(session.save()))


def save_as(at: At, name: str) -> At:
    """Save under another name, and edit that file from now on."""
    session = session_of(at)
    return moved(at, source=str(session.save_as(name)))


def reload(at: At) -> At:
    """Open the file as it is on disk, without the changes made here."""
    session = session_of(at)
    if session.path is None:
        raise ValueError(f"{session.name} is not on disk yet: there is nothing to reload.")
    return pick(at, str(session.path))


def refreshed(at: At) -> At:
    """After other tabs were open: a file that changed meanwhile is read again, unless that would lose changes."""
    session = data_sessions.get(at["session"])
    if session is None or not session.is_outdated():
        return moved(at)
    fresh, row = pick(at, str(session.path)), at["row"]
    return {**fresh, "row": row} if session_of(fresh).has(row) else fresh


def restore(at: At, version: str) -> At:
    """The lines of a kept version in place of the present ones, as one step that undo takes back."""
    session = session_of(at)
    if session.path is None or version not in {str(kept.path) for kept in files.versions(session.path)}:
        raise ValueError("Pick one of the earlier versions first.")
    session.replace_all(read_lines(version, convert=False).lines, "restoring a version")
    return moved(at, row=_first(session))


# Conversations


def choose(at: At, row: int | None) -> At:
    """Show another conversation."""
    return at if row is None or row == at["row"] else moved(at, row=row)


def undo(at: At) -> tuple[At, str]:
    """(where one is after undoing the last change, what it was)."""
    session = session_of(at)
    what = session.undo()
    return moved(at, row=at["row"] if session.has(at["row"]) else _first(session)), what


def add_conversation(at: At) -> At:
    """A blank conversation after the present one."""
    session = session_of(at)
    after = at["row"] if session.has(at["row"]) else None
    return moved(at, row=session.insert(edit.blank_conversation(), after, "adding a conversation"))


def duplicate_conversation(at: At) -> At:
    """A copy of the present conversation, after it."""
    session, row = row_of(at)
    return moved(at, row=session.insert(session.rows.data[row], row, "duplicating a conversation"))


def delete_conversation(at: At) -> At:
    """Delete the present conversation; the next one takes its place."""
    session, row = row_of(at)
    place = session.rows.order.index(row)
    session.remove([row], "deleting a conversation")
    order = session.rows.order
    return moved(at, row=order[min(place, len(order) - 1)] if order else None)


def _first(session: Session) -> int | None:
    return session.rows.order[0] if session.rows.order else None


def change(at: At, what: str, function: Any, *arguments: Any) -> At:
    """Apply one of conversation_edit's functions to the shown conversation."""
    session, row = row_of(at)
    change_turns(session, row, what, function, *arguments)
    return moved(at)


def type_text(session_id: str, row: int, turn: int, part: int | None, text: str) -> Session:
    """Store what is being typed; a whole stretch of typing in one field is one step of undo."""
    session = session_of({"session": session_id})
    put_text(session, row, turn, part, text)
    return session


def apply_text(at: At, text: str) -> At:
    """Put a whole line, typed as JSON."""
    session, row = row_of(at)
    session.set_line(row, edit.from_text(text), "editing the JSON")
    return moved(at)


# Problems


_BY_HAND = "correct them by hand, or delete the lines."


def fix_one(at: At, kind: str) -> At:
    """Apply the rule to the shown conversation. ValueError when it cannot fix it."""
    session, row = row_of(at)
    place = session.rows.order.index(row)
    if not session.fix([row], kind):
        raise ValueError("No rule can fix this one: correct it by hand, or delete the line.")
    order = session.rows.order
    return moved(at, row=row if session.has(row) else order[min(place, len(order) - 1)] if order else None)


def problem_clicked(at: At, told: Mapping[str, Any]) -> At:
    """Show the row of a problem that is listed, and fix it when its Fix was clicked. ValueError from an old page."""
    session = session_of(at)
    row = int(told["row"])
    if told["session"] != session.id or not session.has(row):
        raise ValueError("This line has changed meanwhile: look at the list again, and then repeat your click.")
    shown = choose(at, row)
    return fix_one(shown, told["kind"]) if told["kind"] else shown


def fix_all(at: At, kind: str) -> tuple[At, str]:
    """Apply the rule to every row with this kind of problem; what was done, in a sentence."""
    session = session_of(at)
    return _fixed(at, session, rows_with(session.rows, kind), kind)


def fix_everything(at: At) -> tuple[At, str]:
    """Apply every rule wherever one can fix something; what was done, in a sentence."""
    session = session_of(at)
    return _fixed(at, session, fixable_rows(session.rows), ALL)


def _fixed(at: At, session: Session, rows: list[int], kind: str) -> tuple[At, str]:
    fixed = session.fix(rows, kind)
    if not fixed:
        raise ValueError(f"No rule can fix these: {_BY_HAND}")
    left = len(rows) - fixed
    rest = f" No rule can fix {plural(left, 'other line')}: {_BY_HAND}" if left else ""
    row = at["row"] if session.has(at["row"]) else _first(session)
    return moved(at, row=row), f"{plural(fixed, 'line')} fixed; undo takes it back.{rest}"


def query_of(text: str, show: str, sort: str) -> Query:
    """What the list is asked for; a component that was never set asks for everything."""
    return Query(text or "", show or "all", sort or "file")
