"""Rows judged by models that have not seen them: begun, left, found again by another page, stopped, and reviewed."""

import threading
from dataclasses import replace

import pytest

from nanochat_core.rows.kept_folds import keep_folds
from nanochat_core.runs.run import Run
from studio.data_tab import handlers, review_panel
from studio.datasets.review import queue_of
from studio.evaluate_tab import rows_panel
from tests.e2e.invented import invent_run
from tests.support.folded import made_up, write_twelve
from tests.support.pressed import Pressed


class FakeModels:
    """Judges when it is told to, as the process does: into files."""

    def __init__(self, run, path):
        self.run, self.path = run, path
        self.asked, self.go_on = [], threading.Event()

    def fold(self, asked, report=None, stop=None):
        self.asked.append(asked)
        report(0.25, "Fold 1 of 2: step 3 of 8")
        while not self.go_on.wait(0.02):
            if stop.is_set():
                return False
        keep_folds(self.run, made_up(self.path))
        return True

    def loaded(self):
        return []


@pytest.fixture
def data(home):
    return write_twelve(home)


@pytest.fixture
def run(data):
    return invent_run("mine", steps=20, data_path=str(data))


@pytest.fixture
def models(run, data, page):
    """In the place of the page's, for one test."""
    [event] = Pressed(page).events("eval_judge", "click")
    [asking] = event.fn.args
    fake, was = FakeModels(run, data), asking._models
    asking._models = fake
    yield fake
    fake.go_on.set()
    asking._models = was


def attached(pressed: Pressed):
    [event] = pressed.loading("eval_judge_said")
    return event


def test_a_page_that_is_opened_meanwhile_shows_it_to_its_end_and_then_what_stands_out(page, run, models, data):
    first = Pressed(page, eval_run="mine", eval_folds=2)
    [event] = first.events("eval_judge", "click")
    judging = first.begin(event)
    next(judging)
    assert "mine: Fold 1 of 2: step 3 of 8" in first["eval_judge_said"]
    assert first.shown["eval_judge_stop"]
    judging.close()  # the page is gone
    second = Pressed(page, eval_run="mine")
    watching = second.begin(attached(second))
    next(watching)
    assert "mine: Fold 1 of 2: step 3 of 8" in second["eval_judge_said"]
    assert second.shown["eval_judge_stop"]
    third = Pressed(page, eval_run="mine", eval_folds=3)
    third.do("eval_judge")
    assert "or stop it" in third["eval_judge_said"]
    models.go_on.set()
    list(watching)
    assert "12 rows of mine were judged" in second["eval_judge_said"]
    assert not second.shown["eval_judge_stop"]
    assert "surprises a model that learnt the other rows" in second["eval_found"]
    assert "folds=2" in second["eval_rows_code"]
    assert [(asked.run, asked.data, asked.folds) for asked in models.asked] == [("mine", str(data), 2)]


def test_nothing_is_shown_where_nothing_goes_on(page, run, models):
    pressed = Pressed(page, eval_run="mine")
    list(pressed.begin(attached(pressed)))
    assert not pressed["eval_judge_said"]
    assert not pressed["eval_found"]


def test_what_is_kept_of_a_run_is_said_when_it_is_chosen(page, run, models, data):
    pressed = Pressed(page, eval_run="mine")
    pressed.do("eval_run", "change")
    assert pressed["eval_judge_said"] == ""
    keep_folds(run, replace(made_up(data), done=(1,)))
    pressed.do("eval_run", "change")
    assert "1 of 2 folds of mine are done" in pressed["eval_judge_said"]


def test_a_stop_by_another_page(page, run, models):
    first, second = Pressed(page, eval_run="mine", eval_folds=2), Pressed(page)
    judging = first.begin(first.events("eval_judge", "click")[0])
    next(judging)
    second.do("eval_judge_stop")
    assert "Stopping" in second["eval_judge_said"]
    list(judging)
    assert "before the first fold was done" in first["eval_judge_said"]


def test_findings_do_not_come_to_stand_under_another_run(page, run, models):
    pressed = Pressed(page, eval_run="mine", eval_folds=2)
    judging = pressed.begin(pressed.events("eval_judge", "click")[0])
    next(judging)
    pressed["eval_run"] = invent_run("other", steps=20).tag
    models.go_on.set()
    list(judging)
    assert not pressed["eval_found"]


def test_what_the_folds_find_waits_in_the_review(run, data):
    wish = rows_panel.to_review("mine")
    at = handlers.open_line(dict(handlers.NOWHERE), wish)
    session = handlers.session_of(at)
    assert "mine" not in [tag for _, tag in review_panel.run_choices(session)]  # it tells nothing of its rows yet
    keep_folds(Run.open("mine"), made_up(data))
    chosen, questions = review_panel.wished(at, wish)
    assert review_panel.look_wished(at, wish, chosen["value"], questions["value"])
    [card] = queue_of(session).waiting("suspicious")
    assert session.rows.order.index(card.rows[0]) == 3
    assert "the answer of line 8" in card.reason


def test_a_run_whose_data_is_gone_is_not_judged(page, run, models, data):
    data.unlink()
    pressed = Pressed(page, eval_run="mine", eval_folds=2)
    pressed.do("eval_judge")
    assert "is not there any more" in pressed["eval_judge_said"]
    assert models.asked == []
