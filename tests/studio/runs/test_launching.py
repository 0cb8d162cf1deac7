"""Runs that the Train tab starts: one at a time, stopped, queued, and tried again with a remedy."""

import dataclasses
import json
import os

import pytest

from nanochat_core.runs import launcher, supervisor
from nanochat_core.runs.claiming import run_processes
from nanochat_core.runs.failures import Failure, explain
from nanochat_core.runs.nodes import Nodes
from nanochat_core.runs.presets import with_preset
from nanochat_core.runs.run import Run
from nanochat_core.system.hardware import Gpu, Hardware
from studio.parts import html
from studio.runs import launching, live, stops
from studio.runs import queue as run_queue
from studio.train_tab import before_start
from tests.e2e.invented import invent_run
from tests.support.training_form import write_form_data


@pytest.fixture
def data(home):
    return write_form_data(home)


@pytest.fixture
def fake_training(monkeypatch):
    """Runs that are started by the app do what the word says, and need no torch but torchrun's."""
    real = launching.start_run

    def choose(mode):
        monkeypatch.setenv("FAKE_WORKER", mode)
        monkeypatch.setattr(
            launching, "start_run", lambda *args, **kwargs: real(*args, **kwargs, worker="tests.support.fake_worker")
        )

    return choose


def settings_of(data, tag="mine"):
    return with_preset(data_path=data, model_tag="starter", output_tag=tag)


def wait_for(condition, seconds=60):
    import time

    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


@pytest.mark.processes
def test_one_run_at_a_time_stopped_and_the_queue_goes_on(data, fake_training):
    fake_training("wait")
    run = launching.start(settings_of(data))
    wait_for(run.has_begun)
    with pytest.raises(ValueError, match="Queue this run"):
        launching.start(settings_of(data, "second"))
    run_queue.add(settings_of(data, "second"))
    with pytest.raises(ValueError, match="already a run 'second'"):
        run_queue.add(settings_of(data, "second"))
    assert "second" in before_start.queue_html()
    assert run_queue.start_next() == ""
    assert live.followed("") == "mine"
    view = live.look("mine")
    assert view.can_stop
    assert not view.can_resume
    stops.stop(run)
    stops.stop(run)
    stops.wait("mine", 60)
    view = live.look("mine")
    assert "All its processes are gone" in view.status
    assert run_processes(run) == []
    assert view.can_resume
    fake_training("count")
    assert run_queue.start_next() == "second"
    assert Run.open("second").wait(60).state == "finished"
    assert run_queue.waiting() == []
    assert live.look("second").chart.startswith('<div class="chart">')


@pytest.mark.processes
def test_a_run_resumes_and_is_retried_on_the_gpus_that_it_was_given(data, fake_training, monkeypatch):
    monkeypatch.setattr(
        launcher, "find_hardware", lambda: Hardware((Gpu(0, "A", 1, 0, (9, 0)), Gpu(3, "B", 1, 0, (9, 0))), False, 2, 1)
    )
    fake_training("say:It is broken.")
    run = launching.start(settings_of(data), devices="3")
    assert run.wait(60).state == "failed"
    assert json.loads((run.path / "rank0").read_text())["CUDA_VISIBLE_DEVICES"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    (run.path / "rank0").unlink()
    launching.resume("mine")
    assert run.wait(60).state == "failed"
    assert json.loads((run.path / "rank0").read_text())["CUDA_VISIBLE_DEVICES"] == "3"
    run.write_status(retry={"device_batch_size": 1})
    again = launching.retry("mine")
    again.wait(60)
    assert again.read_launch()["devices"] == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # another machine, say
    assert launcher.devices_before(run) == ""


def test_what_cannot_start_stays_in_the_queue_with_its_reason(data, home):
    run_queue.add(settings_of(data))
    os.unlink(data)
    assert run_queue.start_next() == ""
    assert "cannot be read" in run_queue.waiting()[0].error
    assert "cannot be read" in before_start.queue_html()
    run_queue.remove("mine")
    assert before_start.queue_html() == ""


def test_the_waiting_runs_are_shown_with_what_keeps_them_waiting(data, monkeypatch):
    monkeypatch.setattr(run_queue, "trouble", lambda: "The disk is full.")
    assert before_start.queue_html() == ""
    run_queue.add(settings_of(data))
    assert before_start.queue_html().endswith(html.note("The disk is full.", "bad"))


@pytest.mark.parametrize(
    ("message", "label"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory", "Retry with device_batch_size 4"),
        ("Diverged: The loss is no longer a number.", "Retry with init_lr_frac 0.2"),
        ("RuntimeError: CUDA error: invalid device ordinal", "Retry with one process"),
        ("OSError: [Errno 28] No space left on device", ""),
    ],
)
def test_a_remedy_becomes_a_button_whatever_its_words(home, monkeypatch, message, label):
    def reworded(*arguments):
        return dataclasses.replace(explain(*arguments), error="Plainly other words.", remedy="Do something else.")

    monkeypatch.setattr(supervisor, "explain", reworded)
    run = invent_run("mine", "running", 40, 20, device_batch_size=8, init_lr_frac=0.4)
    supervisor._last_word(run, [Failure(0, 1, message)], Nodes(1))
    view = live.look("mine")
    assert "Plainly other words. Do something else." in view.status
    assert view.retry == label
    assert view.can_resume


@pytest.mark.processes
def test_retry_starts_the_changed_run_under_a_free_name(home, fake_training):
    fake_training("count")
    failed = invent_run("mine", "failed", 40, 20, device_batch_size=8)
    failed.write_status(error="Full.", remedy="Be modest.", retry={"device_batch_size": 4})
    run = launching.retry("mine")
    assert (run.tag, run.settings().device_batch_size) == ("mine-2", 4)
    assert run.wait(60).state == "finished"
