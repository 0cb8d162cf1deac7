"""Editing a dataset: everything can be undone, nothing is on disk before Save, and a conflict loses nothing."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat_core.data.conversations import check
from nanochat_core.system.files import sha256_of
from studio.data_tab import handlers, view
from studio.datasets import edit, sessions
from studio.datasets.files import ConflictError, find_dataset, versions
from studio.datasets.importing import Imported
from studio.datasets.session import Session
from tests.support.samples import GOOD, assistant, line, user

LINES = [
    GOOD,
    line(user("a"), assistant("b"), user("c"), assistant("d")),
    "{broken",
    '{"prompt": "p", "completion": "q"}',
]


def session_with(lines=LINES):
    imported = Imported([(number, text.encode()) for number, text in enumerate(lines, 1)], [], False)
    return Session("x.jsonl", imported)


def content(session):
    return [session.rows.data[row] for row in session.rows.order]


def opened(home, lines=LINES, name="mine.jsonl"):
    path = home / "data" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return handlers.pick(dict(handlers.NOWHERE), str(path)), path


ACTIONS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=12)


@given(ACTIONS)
def test_undo_takes_everything_back(actions):
    session = session_with()
    states = []
    for action, number in actions:
        if not session.rows.order:
            break
        row, before, steps = session.rows.order[number % len(session.rows.order)], content(session), len(states)
        if action == 0:
            session.set_line(row, f'{{"x": {number}}}'.encode(), "set")
        elif action == 1:
            session.insert(GOOD.encode(), row, "insert")
        elif action == 2:
            session.remove([row], "remove")
        elif action == 3:
            session.fix(session.rows.order, "other_format")
        elif action == 4:
            session.fix([row], "repeated_conversation")
        else:
            session.replace_all([(1, GOOD.encode())], "restore")
        states += [before] * (len(session._undo) - steps)
    while session.undo():
        assert content(session) == states.pop()
    assert content(session) == [text.encode() for text in LINES]
    assert not session.is_dirty


def test_typing_in_one_field_is_one_step(home):
    session = session_with()
    sessions.keep(session)
    for text in ("h", "he", "hel"):
        handlers.type_text(session.id, 0, 0, None, text)
    handlers.type_text(session.id, 0, 1, None, "other field")
    session.undo()
    assert json.loads(session.rows.data[0])["messages"][0]["content"] == "hel"
    session.undo()
    assert session.rows.data[0] == GOOD.encode()
    assert not session.undo()


def test_typing_on_after_a_save_is_unsaved_again(home):
    at, path = opened(home, [GOOD, GOOD])
    row = at["row"]
    handlers.type_text(at["session"], row, 0, None, "one")
    handlers.save(at)
    session = handlers.session_of(at)
    assert not session.is_dirty
    handlers.type_text(at["session"], row, 0, None, "two")
    assert session.is_dirty
    session.undo()
    assert not session.is_dirty
    session.undo()
    assert session.is_dirty  # back before what was saved
    assert b"one" in path.read_bytes()


def test_nothing_is_on_disk_before_save_and_untouched_lines_stay_as_they_were(home):
    odd = '{ "messages" : [ {"role":"user","content":"a"}, {"role":"assistant","content":"b"} ] , "id": 7 }'
    at, path = opened(home, [odd, GOOD, "{broken"])
    before = path.read_bytes()
    at = handlers.choose(at, 1)
    at = handlers.change(at, "adding", edit.add_turn)
    assert path.read_bytes() == before
    handlers.save(at)
    lines = path.read_text().splitlines()
    assert lines[0] == odd
    assert lines[2] == "{broken"
    assert len(json.loads(lines[1])["messages"]) == 3


def test_opening_goes_to_the_first_fault(home):
    at, _ = opened(home)
    assert at["row"] == 2
    assert handlers.session_of(at).rows.line[2] == 3


def test_two_browsers_the_second_save_is_a_conflict_and_nothing_is_lost(home):
    one, path = opened(home, [GOOD, GOOD])
    two = handlers.pick(dict(handlers.NOWHERE), str(path))
    handlers.type_text(one["session"], 0, 1, None, "from one")
    handlers.type_text(two["session"], 0, 1, None, "from two")
    handlers.save(one)
    with pytest.raises(ConflictError):
        handlers.save(two)
    assert b"from one" in path.read_bytes()
    two = handlers.save_as(two, "second")
    assert b"from two" in (home / "data" / "second.jsonl").read_bytes()
    assert b"from one" in path.read_bytes()
    assert two["source"].endswith("second.jsonl")
    one = handlers.reload(one)
    assert not handlers.session_of(one).is_dirty


def test_an_example_is_saved_as_a_copy(home):
    example = next(value for label, value in handlers.choices([]) if "(example)" in label)
    sha = sha256_of(find_dataset(example).path)
    at = handlers.pick(dict(handlers.NOWHERE), example)
    assert at["source"] == example  # Train may use it as it is
    handlers.type_text(at["session"], at["row"], 0, None, "changed")
    at = handlers.save(at)
    assert at["source"] == str(home / "data" / "my_example_data.jsonl")
    assert sha256_of(find_dataset(example).path) == sha


def test_unsaved_work_stays_in_the_list_of_datasets(home):
    at = handlers.create(dict(handlers.NOWHERE), "fresh")
    label, value = handlers.choices([at["session"]])[0]
    assert label == "fresh.jsonl (not saved)"
    assert handlers.pick(dict(handlers.NOWHERE), value)["session"] == at["session"]
    assert not (home / "data" / "fresh.jsonl").exists()


def test_a_row_added_elsewhere_is_shown_unless_there_are_changes_here(home):
    at, path = opened(home)
    path.write_text(path.read_text() + f"{GOOD}\n")
    fresh = handlers.refreshed({**at, "row": 1})
    assert len(handlers.session_of(fresh).rows.order) == len(LINES) + 1
    assert fresh["row"] == 1
    handlers.session_of(fresh).set_line(0, line(user("a"), assistant("b")).encode(), "typing")
    path.write_text(path.read_text() + f"{GOOD}\n")
    kept = handlers.refreshed(fresh)
    assert kept["session"] == fresh["session"]
    assert handlers.session_of(kept).is_dirty
    path.unlink()
    handlers.undo(kept)
    assert handlers.refreshed(kept)["session"] == fresh["session"]


def test_restore_brings_a_version_back_and_undo_takes_that_back(home):
    at, path = opened(home, [GOOD, GOOD])
    old = path.read_bytes()
    handlers.type_text(at["session"], 0, 0, None, "new")
    at = handlers.save(at)
    new = path.read_bytes()
    at = handlers.restore(at, str(versions(path)[0].path))
    handlers.save(at)
    assert path.read_bytes() == old
    handlers.undo(at)
    handlers.save(at)
    assert path.read_bytes() == new
    with pytest.raises(ValueError, match="Pick one of the earlier"):
        handlers.restore(at, "/etc/passwd")


def test_each_problem_has_its_fix_and_all_are_fixed_at_once(home):
    path = home / "data" / "mine.jsonl"
    path.parent.mkdir(exist_ok=True)
    two = line(user("a"), user("b"), assistant("c"))
    bad = json.dumps({"label": False, **json.loads(GOOD)})
    path.write_text(
        "\n".join([GOOD, two, line(user("a"), {"role": "cook", "content": "b"}), '{"q": 1}', two, bad]) + "\n"
    )
    at = handlers.pick(dict(handlers.NOWHERE), str(path))
    session = handlers.session_of(at)
    drawn = view.problems_html(session, "")
    assert drawn.count('data-kind="wrong_order"') == 2  # none for what no rule can fix
    assert 'data-kind="unknown_role"' not in drawn
    assert 'data-kind="negative_example"' in drawn
    assert view.fix_everything_label(session) == ("Fix all that a rule can fix (2 lines)", 2)
    told = {"session": session.id, "row": 4, "kind": "wrong_order"}
    at = handlers.problem_clicked(at, told)
    assert (at["row"], session.rows.is_faulty(4)) == (4, False)
    with pytest.raises(ValueError, match="repeat your click"):
        handlers.problem_clicked(at, {**told, "session": "old"})
    at, sentence = handlers.fix_everything(at)
    assert sentence == "1 line fixed; undo takes it back."
    assert json.loads(session.rows.data[1])["messages"][0]["content"] == "a\n\nb"
    with pytest.raises(ValueError, match="by hand"):
        handlers.fix_everything(at)
    assert len(session.rows.order) == 6  # bad examples are removed by their own button only


def test_fix_all_fixes_what_rules_can_and_says_the_rest(home):
    at, _ = opened(home)
    at, sentence = handlers.fix_all(at, "other_format")
    assert sentence.startswith("1 line fixed")
    with pytest.raises(ValueError, match="by hand"):
        handlers.fix_all(at, "not_json")
    at = handlers.delete_conversation(handlers.choose(at, 2))
    path = handlers.save(at)["source"]
    assert check(path).verdict == "accept"


def test_threads_lose_no_edit(home):
    session = session_with([line(user("x"), *[assistant("y"), user("z")] * 20, assistant("y"))])
    sessions.keep(session)
    jobs = [threading.Thread(target=handlers.type_text, args=(session.id, 0, n, None, f"t{n}")) for n in range(42)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [message["content"] for message in json.loads(session.rows.data[0])["messages"]] == [
        f"t{n}" for n in range(42)
    ]


@pytest.fixture
def none_kept(monkeypatch):
    monkeypatch.setattr(sessions, "_sessions", type(sessions._sessions)())


def test_changes_and_what_is_only_read_do_not_push_each_other_out(none_kept):
    dirty = sessions.keep(session_with())
    dirty.remove([0], "x")
    for _ in range(sessions.MAX_SESSIONS + 3):
        sessions.keep(session_with())
    assert sessions.get(dirty.id) is dirty
    assert len(sessions._sessions) == sessions.MAX_SESSIONS + 1
    clean = sessions.keep(session_with())
    for _ in range(sessions.MAX_SESSIONS + 3):
        sessions.keep(session_with()).mark_new()
    assert sessions.get(clean.id) is clean
    assert sessions.get("no such") is None


@pytest.mark.parametrize("is_shipped", [False, True])
def test_what_went_from_memory_is_read_again_with_the_same_rows(home, none_kept, monkeypatch, is_shipped):
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 1)
    at, _ = opened(home, LINES)
    if is_shipped:
        at = handlers.open_example(at)
    else:
        handlers.session_of(at).remove([1], "deleting")
        handlers.session_of(at).insert(b'{"n": 1}', 2, "adding")
        handlers.save(at)
    was = handlers.session_of(at)
    other = handlers.opened(at, sessions.keep(session_with()))
    assert not sessions.is_open(at["session"])
    session = handlers.session_of(at)
    assert session is not was
    for fact in (lambda one: one.rows.order, lambda one: [one.rows.data[row] for row in one.rows.order]):
        assert fact(session) == fact(was)
    assert [session.rows.line[row] for row in session.rows.order] == [was.rows.line[row] for row in was.rows.order]
    assert (session.name, session.path, session.sha, session.is_dirty) == (was.name, was.path, was.sha, False)
    assert not sessions.is_open(other["session"])
    handlers.type_text(at["session"], session.rows.order[0], 0, None, "typed")
    assert handlers.session_of(at).is_dirty  # a draft begins as ever


def test_what_went_from_memory_and_changed_on_disk_is_not_shown_as_it_was(home, none_kept, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 1)
    at, path = opened(home, [GOOD])
    sessions.keep(session_with())
    path.write_text(GOOD + "\n" + GOOD + "\n")
    with pytest.raises(ValueError, match="No dataset is open"):
        handlers.session_of(at)


def test_without_a_dataset_a_sentence_says_what_to_do():
    for act in (handlers.save, handlers.add_conversation, handlers.delete, handlers.undo, handlers.download):
        with pytest.raises(ValueError, match="No dataset is open"):
            act(dict(handlers.NOWHERE))


def test_download_is_what_is_on_the_screen(home):
    at, _ = opened(home, [GOOD])
    handlers.type_text(at["session"], 0, 0, None, "unsaved")
    target = Path(handlers.download(at))
    assert target.name == "mine.jsonl"
    assert b"unsaved" in target.read_bytes()
