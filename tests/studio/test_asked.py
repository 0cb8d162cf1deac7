"""What "Are you sure?" was asked about is what the answer does, whatever is chosen by then."""

from pathlib import Path

import gradio as gr
import pytest

from nanochat_core.runs.run import Run
from nanochat_core.system import processes
from studio.data_tab import handlers as data
from studio.datasets import sessions
from studio.runs import stops
from tests.e2e.invented import invent_run
from tests.support.pressed import Pressed
from tests.support.samples import GOOD


def test_the_run_that_is_deleted_is_the_one_that_was_asked_about(home, page):
    for tag in ("one", "two"):
        invent_run(tag, steps=10)
    pressed = Pressed(page)
    pressed.do("eval_delete", eval_run="one")
    assert "Delete run one" in pressed["eval_question"]
    assert pressed.shown["eval_sure"]
    pressed["eval_run"] = "two"  # as the watch does when run one vanishes
    pressed.do("eval_delete_yes")
    assert [run.tag for run in Run.list()] == ["two"]
    assert "one is deleted" in pressed["eval_said"]
    pressed.do("eval_delete_yes")  # a second click: run two is not the next one
    assert [run.tag for run in Run.list()] == ["two"]


def test_the_question_about_a_run_goes_when_another_one_is_chosen(home, page):
    for tag in ("one", "two"):
        invent_run(tag, steps=10)
    pressed = Pressed(page)
    pressed.do("eval_delete", eval_run="one")
    pressed.do("eval_run", "change", eval_run="two")
    assert (pressed["eval_name"], pressed.shown["eval_sure"]) == ("two", False)


def running(tag: str) -> Run:
    run = invent_run(tag, "running", 40, 20)
    run.write_launch(**processes.identity().to_dict())  # this very process stands for the run
    return run


def test_the_run_that_is_stopped_is_the_one_that_was_asked_about(home, page, monkeypatch):
    stopped = []
    monkeypatch.setattr(stops, "stop", lambda run: stopped.append(run.tag))
    first = running("first")
    pressed = Pressed(page, watch_run="")
    pressed.do("watch_stop")
    assert "run first" in pressed["watch_question"]
    first.write_status(state="finished")
    first.launch_file.unlink()
    running("next")  # of the queue, and so the one that is followed now
    pressed.do("watch_stop_yes")
    assert stopped == []
    assert "Run first has ended meanwhile" in pressed["watch_said"]
    assert not pressed.shown["watch_sure"]
    pressed.do("watch_stop")
    pressed.do("watch_stop_yes")
    assert (stopped, pressed["watch_said"]) == (["next"], "")


@pytest.fixture
def datasets(home):
    (home / "data").mkdir()
    paths = [home / "data" / f"{name}.jsonl" for name in ("one", "two")]
    for path in paths:
        path.write_text(GOOD + "\n")
    return [str(path) for path in paths]


def at_of(pressed: Pressed) -> int:
    """The number of the state that says where a person is in Data."""
    return pressed.events("data-delete", "click")[0].inputs[0]._id


def test_the_dataset_that_is_deleted_is_the_one_that_was_asked_about(datasets, page):
    pressed, one = Pressed(page), data.pick(data.NOWHERE, datasets[0])
    at = at_of(pressed)
    pressed.values[at] = one
    pressed.do("data-delete")
    assert "Move one.jsonl to the bin" in pressed["data-delete-question"]
    pressed.values[at] = two = data.pick(one, datasets[1])
    with pytest.raises(gr.Error, match="Another dataset is open"):
        pressed.do("data-delete-yes")
    assert pressed.values[at] == two
    sure = page.blocks[pressed.ids["data-delete-sure"]]
    [hides] = [event for event in pressed.events(at, "change") if sure in event.outputs]
    list(pressed.begin(hides))
    assert not pressed.shown["data-delete-sure"]
    pressed.do("data-delete")
    pressed.do("data-delete-yes")
    assert [dataset for dataset in datasets if Path(dataset).exists()] == datasets[:1]


def test_changes_are_lost_only_of_the_dataset_that_was_asked_about(datasets, page):
    pressed, one = Pressed(page), data.pick(data.NOWHERE, datasets[0])
    at = at_of(pressed)
    data.type_text(one["session"], 0, 0, None, "mine")
    with open(datasets[0], "a") as file:
        file.write(GOOD + "\n")  # in an editor meanwhile
    pressed.values[at] = one
    pressed.do("data-save")
    assert pressed.shown["data-conflict"]
    pressed.values[at] = two = data.pick(one, datasets[1])
    data.type_text(two["session"], 0, 0, None, "kept")
    for button in ("data-reload", "data-save-as"):
        with pytest.raises(gr.Error, match="Another dataset is open"):
            pressed.do(button)
    assert sessions.get(two["session"]).is_dirty
