"""Unsaved changes on disk: whatever was done is found again, byte for byte, and nothing is left once it is saved."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat_core.system.processes import identity
from studio.data_tab import draw, handlers, view
from studio.datasets import drafts, sessions
from studio.datasets.drafts import splice_of
from studio.datasets.files import ConflictError, data_dir, find_dataset
from tests.support.samples import GOOD, assistant, line, user

LINES = [GOOD, line(user("a"), assistant("b")), "{broken", '{"prompt": "p", "completion": "q"}', "", GOOD]


@pytest.fixture(autouse=True)
def forgetting(monkeypatch):
    """No test finds another one's sessions."""
    monkeypatch.setattr(sessions, "_sessions", type(sessions._sessions)())


def write(home, *lines, name="mine.jsonl"):
    path = home / "data" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def pick(path):
    return handlers.pick(dict(handlers.NOWHERE), str(path))


def crash():
    """What a kill -9 leaves: only what is on disk."""
    sessions._sessions.clear()


def content(session):
    return [session.rows.data[row] for row in session.rows.order]


def act(session, number, place):
    """One of the changes that a person can make."""
    row = session.rows.order[place % len(session.rows.order)]
    if number == 0:
        session.set_line(row, f'{{"x": {place}}}'.encode(), "set")
    elif number == 1:
        session.insert(GOOD.encode(), row, "insert")
    elif number == 2:
        session.remove([row], "remove")
    elif number == 3:
        session.fix(list(session.rows.order), "other_format")
    elif number == 4:
        session.replace_all([(1, b"\xff not UTF-8"), (2, GOOD.encode())], "restore")
    elif number == 5:
        session.undo()
    else:
        session.save()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 20)), max_size=12), st.booleans())
def test_whatever_was_done_is_found_again(tmp_path_factory, actions, is_compacted):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_STUDIO_HOME", str(home))
        patch.setattr(drafts, "COMPACT_BYTES", 0 if is_compacted else 1 << 20)
        path = write(home, *LINES)
        session = sessions.get(pick(path)["session"])
        for number, place in actions:
            if session.rows.order:
                act(session, number, place)
        crash()
        again = sessions.get(session.id)
        if not session.is_dirty:
            assert again is None
            assert not any(drafts.drafts_dir().glob("*"))
            return
        assert content(again) == content(session)
        assert again.rows.order == session.rows.order  # the page's ids still hold
        assert again.is_dirty
        again.undo()
        assert not again.is_dirty
        assert content(again) == [text.rstrip(b"\r") for text in path.read_bytes().split(b"\n") if text]


def test_the_question_is_asked_when_the_dataset_is_opened(home):
    path = write(home, GOOD)
    at = pick(path)
    handlers.type_text(at["session"], 0, 1, None, "not saved")
    assert handlers.drafts(pick(path)) == []  # it is open: no other browser is asked
    crash()
    other = pick(path)
    assert other["session"] != at["session"]
    visible, question, draft = draw.draft(other)
    assert visible["visible"]
    assert "There are unsaved changes to mine.jsonl from" in question
    taken = handlers.restore_draft(other, draft)
    assert taken["session"] == at["session"]
    session = sessions.get(taken["session"])
    assert b"not saved" in session.rows.data[0]
    assert "found again" in view.status(session)
    assert not draw.draft(taken)[0]["visible"]
    handlers.save(taken)
    assert "not saved" in path.read_text()
    assert not any(drafts.drafts_dir().iterdir())


def test_discarding_moves_the_draft_away(home):
    path = write(home, GOOD)
    handlers.type_text(pick(path)["session"], 0, 1, None, "not wanted")
    crash()
    at = pick(path)
    draft = draw.draft(at)[2]
    at, said = handlers.discard(at, draft)
    assert "data/.trash/" in said
    assert "not wanted" in next((data_dir() / ".trash").glob("*/journal.jsonl")).read_text()
    assert not draw.draft(at)[0]["visible"]
    with pytest.raises(ValueError, match="not there any more"):
        handlers.discard(at, draft)
    with pytest.raises(ValueError, match="not there any more"):
        handlers.restore_draft(at, draft)


def test_a_draft_of_a_file_that_has_changed_is_offered_and_ends_in_the_conflict(home):
    path = write(home, GOOD)
    handlers.type_text(pick(path)["session"], 0, 1, None, "mine")
    crash()
    path.write_text(line(user("other"), assistant("theirs")) + "\n")
    at = pick(path)
    visible, question, draft = draw.draft(at)
    assert visible["visible"]
    assert "has changed on disk since" in question
    at = handlers.restore_draft(at, draft)
    with pytest.raises(ConflictError):
        handlers.save(at)
    saved = handlers.save_as(at, "mine-2")["source"]
    assert json.loads(Path(saved).read_text())["messages"][1]["content"] == "mine"
    assert "theirs" in path.read_text()


@pytest.mark.processes
@pytest.mark.processes
def test_an_upload_that_was_never_saved_is_picked_again(home, tmp_path):
    upload = tmp_path / "bakery.jsonl"
    upload.write_text(GOOD + "\n")
    handlers.upload(dict(handlers.NOWHERE), str(upload))
    upload.unlink()
    crash()
    label, value = handlers.choices([])[0]
    assert label.startswith("bakery.jsonl (not saved, ")
    at = handlers.pick(dict(handlers.NOWHERE), value)
    session = sessions.get(at["session"])
    assert content(session) == [GOOD.encode()]
    assert session.is_dirty
    at, said = handlers.delete(at)
    assert at["session"] == ""
    assert "data/.trash/" in said
    assert not handlers.choices([])[0][0].startswith("bakery")


def test_an_edit_writes_only_what_changed(home):
    path = write(home, *[line(user(f"question {number}"), assistant("a" * 200)) for number in range(500)])
    at = pick(path)
    handlers.type_text(at["session"], 0, 1, None, "first")
    journal = drafts.drafts_dir() / at["session"] / "journal.jsonl"
    before = journal.stat().st_size
    handlers.type_text(at["session"], 400, 1, None, "x")
    handlers.delete_conversation({**at, "row": 300})
    assert journal.stat().st_size - before < 300


def test_a_torn_last_line_is_skipped(home):
    path = write(home, GOOD)
    at = pick(path)
    handlers.type_text(at["session"], 0, 1, None, "whole")
    with open(drafts.drafts_dir() / at["session"] / "journal.jsonl", "ab") as file:
        file.write(b'{"row": 0, "te')
    crash()
    session = sessions.get(at["session"])
    assert json.loads(session.rows.data[0])["messages"][1]["content"] == "whole"


def test_a_draft_that_another_living_app_writes_is_left_alone(home):
    path = write(home, GOOD)
    at = pick(path)
    handlers.type_text(at["session"], 0, 1, None, "theirs")
    crash()
    meta = drafts.drafts_dir() / at["session"] / "meta.json"
    values = json.loads(meta.read_text())
    meta.write_text(json.dumps({**values, "owner": identity(os.getppid()).to_dict()}))
    assert handlers.drafts(pick(path)) == []
    meta.write_text(json.dumps({**values, "owner": {**identity(os.getppid()).to_dict(), "start": 1.0}}))
    assert len(handlers.drafts(pick(path))) == 1


def test_a_renamed_file_keeps_its_draft(home):
    path = write(home, GOOD)
    at = pick(path)
    handlers.type_text(at["session"], 0, 1, None, "mine")
    at = handlers.rename(at, "other")
    crash()
    assert len(handlers.drafts(pick(at["source"]))) == 1


def test_an_evicted_session_is_found_again(home, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    path = write(home, GOOD)
    at = pick(path)
    handlers.type_text(at["session"], 0, 1, None, "kept")
    for _ in range(3):  # what is opened next puts away one too many
        handlers.type_text(pick(path)["session"], 0, 1, None, "other")
    assert not sessions.is_open(at["session"])
    assert b"kept" in sessions.get(at["session"]).rows.data[0]


def test_a_full_disk_is_said_and_hinders_nothing(home, monkeypatch):
    def full(self, *arguments):
        raise OSError(28, "No space left on device")

    path = write(home, GOOD)
    at = pick(path)
    monkeypatch.setattr(drafts.Draft, "begin", full)
    session = handlers.type_text(at["session"], 0, 1, None, "typed")
    assert b"typed" in session.rows.data[0]
    assert "cannot be kept on disk (no space left on device)" in view.status(session)
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc", "x" * 30, "no such id"])
def test_no_name_reaches_another_folder(home, name):
    assert drafts.found(name) is None


def test_a_broken_draft_is_no_draft(home):
    path = write(home, GOOD)
    at = pick(path)
    handlers.type_text(at["session"], 0, 1, None, "x")
    crash()
    (drafts.drafts_dir() / at["session"] / "meta.json").write_text("{")
    assert handlers.drafts(pick(path)) == []
    shutil.rmtree(drafts.drafts_dir())
    assert sessions.get(at["session"]) is None
    assert find_dataset(path)


@given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 5), max_size=8))
def test_splices(old, new):
    splice = splice_of(old, new)
    if splice:
        place, gone, put = splice
        old = [*old[:place], *put, *old[place + gone :]]
    assert old == new
