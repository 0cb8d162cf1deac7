"""The live view of a run: what it shows and what it leaves alone."""

import pytest

from nanochat_core.runs import curves
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import RunStatus
from studio.parts import html
from studio.runs import live
from tests.e2e.invented import invent_run


def test_nothing_is_drawn_twice(home):
    run = invent_run("mine", "finished", 30)
    first = live.look("mine")
    assert live.look("mine") is first
    run.append_metrics({"step": 31, "train_loss": 0.5})
    assert live.look("mine") is not first


def test_before_any_run_it_says_what_to_do(home):
    assert live.followed("") == ""
    assert "Start training" in live.look("").status


def test_a_run_that_was_killed_can_be_resumed(home):
    invent_run("mine", "running", 40, 20)  # says that it runs, and has no process
    view = live.look("mine")
    assert "interrupted" in view.status
    assert view.can_resume


def test_text_of_data_and_logs_is_never_run(home):
    run = invent_run("mine", "failed", 10, 5)
    run.log_file.write_text("<script>alert(1)</script>")
    run.write_status(error="<img src=x onerror=alert(1)>", remedy="<b>")
    view = live.look("mine")
    assert "<script" not in view.log
    assert "<img" not in view.status
    assert "<b>" not in view.status


def test_metrics_are_read_on_and_anew_after_a_rewind(home):
    run = invent_run("mine", "finished", 20)
    before = len(curves.rows(run))
    run.append_metrics({"step": 21, "train_loss": 1.0, "time": 5.0})
    with open(run.metrics_file, "a") as file:
        file.write('{"step": 22, "train')
    assert len(curves.rows(run)) == before + 1
    with open(run.metrics_file, "a") as file:
        file.write('_loss": 0.5}\n')
    assert curves.last(curves.rows(run), "train_loss") == 0.5
    run.rewind_metrics(10)
    assert {row["step"] for row in curves.rows(run)} == set(range(11))


@pytest.mark.parametrize(("seconds", "said"), [(None, "–"), (0.4, "0 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")])
def test_times_are_said_as_people_say_them(seconds, said):
    assert html.duration(seconds) == said


def test_a_stalled_run_warns_and_can_be_stopped(home, monkeypatch):
    run = invent_run("mine", "running", 40, 20)
    silent = "There has been no sign of life for 10 min 00 s."
    monkeypatch.setattr(Run, "status", lambda _: RunStatus("stalled", 20, 40, error=silent, remedy="Stop it."))
    view = live.look(run.tag)
    assert html.badge("stalled") in view.status
    assert html.note(f"{silent} Stop it.", "warn") in view.status
    assert (view.can_stop, view.can_resume, view.retry) == (True, False, "")


@pytest.mark.parametrize("state", ["running", "finished", "failed"])
def test_a_warning_stands_above_what_came_of_the_run(home, state):
    run = invent_run("mine", state)
    live.look("mine")
    run.write_status(warning="The loss rises.")
    shown = live.look("mine").status
    assert html.note("The loss rises.", "warn") in shown
    assert state != "finished" or shown.index("The loss rises.") < shown.index("Finished:")
