"""The review of an opened dataset: each decision, what is remembered of it, and the way back."""

import pytest

from nanochat_core.data.line import to_line
from studio.data_tab.review_panel import card_html
from studio.datasets import files, review, sessions
from studio.datasets.files import data_dir, find_dataset
from studio.datasets.review import Queue, queue_of
from tests.support.planted import talk

TALKS = [
    talk("When do you open?", "At 7."),
    talk("When do you open?", "At 9."),
    talk("Where are you?", "In the old mill."),
    talk("Where are you?", "In the old mill."),
    talk("Where are you, please?", "In the old mill."),
    talk("Who bakes?", "..."),
    talk("Who pays?", "N/A"),
    talk("Which bread is there?", "Rye and spelt."),
]


@pytest.fixture
def session(home):
    path = data_dir() / "mine.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(map(to_line, TALKS)))
    return sessions.open_dataset(find_dataset(path))


@pytest.fixture
def queue(session) -> Queue:
    found = queue_of(session)
    found.look()
    return found


def _kinds(queue) -> list[str]:
    return [card.kind for card in queue.waiting()]


def _lines(session) -> list[bytes]:
    return [session.rows.data[row] for row in session.rows.order]


def test_the_gravest_finding_comes_first_and_filters_show_one_kind(queue):
    kinds = _kinds(queue)
    assert kinds[0] == "contradiction"
    assert sorted(kinds) == ["contradiction", "empty", "empty", "near_duplicate"] or "split_duplicate" in kinds
    assert {card.kind for card in queue.waiting("empty")} == {"empty"}
    assert queue.counts()["empty"] == 2


def test_what_is_kept_is_not_asked_again_also_after_lines_have_moved_and_the_app_was_restarted(queue, session):
    card = queue.waiting("contradiction")[0]
    queue.decide(card.key, "keep", card.rows[0])
    assert not queue.waiting("contradiction")
    session.insert(to_line(talk("Something new?", "It is.")).strip(), session.rows.order[0], "adding")
    session.save()
    review._queues.clear()
    again = queue_of(sessions.open_dataset(find_dataset(session.path)))
    again.look()
    assert not again.waiting("contradiction")
    assert again.waiting("empty")


def test_deleting_answers_the_card_and_taking_it_back_asks_again(queue, session):
    before, card = _lines(session), queue.waiting("contradiction")[0]
    queue.decide(card.key, "delete", card.rows[1])
    assert _lines(session) == [line for line in before if line != card.texts[1]]
    assert "contradiction" not in _kinds(queue)
    assert queue.undo().startswith("Taken back")
    assert _lines(session) == before
    assert queue.waiting("contradiction") == [card]


def test_merging_leaves_the_chosen_row_alone(queue, session):
    card = next(card for card in queue.waiting() if card.kind in ("near_duplicate", "split_duplicate"))
    queue.decide(card.key, "merge", card.rows[1])
    assert session.has(card.rows[1])
    assert not any(session.has(row) for row in card.rows if row != card.rows[1])
    session.undo()  # the Data tab's own Undo knows it, too
    assert card in queue.waiting()


def test_merging_a_contradiction_keeps_what_most_rows_say(session):
    session.remove(list(session.rows.order), "clearing")
    right = [talk("When do you open?", "We open at 7 am.")] * 6
    for one in (*right[:3], talk("When do you open?", "We open at 9 pm."), *right[3:]):
        session.insert(to_line(one).strip(), None, "adding")
    queue = queue_of(session)
    queue.look()
    card = queue.waiting("contradiction")[0]
    page = card_html(session, "contradiction")
    assert f'data-act="merge" data-shortcut="m" id="data-review-merge" data-row="{card.right}">' in page
    assert b"9 pm" in session.rows.data[card.rows[0]]  # chosen at first: to edit or to delete
    queue.decide_all("contradiction", "merge")
    assert _lines(session) == [to_line(right[0]).strip()]


def test_of_many_rows_each_is_shown_once_and_the_others_are_counted(session):
    session.remove(list(session.rows.order), "clearing")
    for _ in range(10):
        session.insert(to_line(talk("When do you open?", "We open at 7 am.")).strip(), None, "adding")
    queue_of(session).look()
    page = card_html(session, "")
    assert sorted(page.count(f"</b> line {number}<") for number in range(1, 11)) == [0, *[1] * 9]
    assert "And 1 more row." in page


def test_rows_with_a_fault_are_said_to_be_left_out(session):
    session.insert(b'{"messages": []}', None, "adding")
    queue = queue_of(session)
    queue.look()
    assert "1 line with a fault left out: `check` says more." in queue.notes


def test_an_edited_row_is_decided_and_undoing_the_edit_asks_again(queue, session):
    card = queue.waiting("empty")[0]
    session.set_line(card.rows[0], to_line(talk("Who bakes?", "Tomas does.")).strip(), "editing")
    assert card not in queue.waiting("empty")
    session.undo()
    assert card in queue.waiting("empty")


def test_the_last_ten_decisions_can_be_taken_back_one_by_one(session):
    for number in range(12):
        session.insert(to_line(talk(f"What is thing {number * 7} for?", "...")).strip(), None, "adding")
    queue = queue_of(session)
    queue.look()
    before = _lines(session)
    for number in range(12):
        card = queue.waiting("empty")[0]
        queue.decide(card.key, "delete" if number % 2 else "keep", card.rows[0])
    for _ in range(10):
        queue.undo()
    assert len(_lines(session)) == len(before) - 1  # the second decision of the twelve
    with pytest.raises(ValueError, match="no decision"):
        queue.undo()


def test_undo_does_not_touch_what_was_changed_since(queue, session):
    card = queue.waiting("empty")[0]
    queue.decide(card.key, "delete", card.rows[0])
    session.insert(to_line(talk("New?", "Yes, new.")).strip(), None, "adding a conversation")
    with pytest.raises(ValueError, match="use its own Undo"):
        queue.undo()


def test_all_of_a_kind_are_decided_in_one_step(queue, session):
    before = _lines(session)
    queue.decide_all("empty", "delete")
    assert len(_lines(session)) == len(before) - 2
    queue.undo()
    assert _lines(session) == before
    queue.decide_all("empty", "keep")
    assert not queue.waiting("empty")
    with pytest.raises(ValueError, match="nothing of this kind"):
        queue.decide_all("empty", "keep")


def test_what_is_left_for_later_comes_last(queue):
    first = queue.waiting()[0]
    queue.skip(first.key)
    assert queue.waiting()[-1] == first
    assert queue.waiting()[0] != first


def test_a_decision_about_a_row_that_is_gone_is_refused(queue, session):
    card = queue.waiting("contradiction")[0]
    session.remove([card.rows[0]], "deleting a conversation")
    with pytest.raises(ValueError, match="in the meantime"):
        queue.decide(card.key, "keep", card.rows[0])
    other = queue.waiting("empty")[0]
    with pytest.raises(ValueError, match="not among those"):
        queue.decide(other.key, "delete", card.rows[1])


def test_rows_like_one_share_its_rare_words(queue, session):
    order = session.rows.order
    assert set(queue.like(order[2])[:2]) == {order[3], order[4]}


def test_nothing_is_on_disk_before_save_but_what_was_kept(queue, session):
    content = session.path.read_bytes()
    card = queue.waiting("empty")[0]
    queue.decide(card.key, "delete", card.rows[0])
    other = queue.waiting("empty")[0]
    queue.decide(other.key, "keep", other.rows[0])
    assert session.path.read_bytes() == content
    assert session.is_dirty
    files.rename(find_dataset(session.path), "other")
    review._queues.clear()
    again = queue_of(sessions.open_dataset(find_dataset(data_dir() / "other.jsonl")))
    again.look()
    assert other.rows[0] not in {row for card in again.waiting("empty") for row in card.rows}
    assert again.waiting("empty")
