"""Runs that the Train tab starts: one at a time, stopped, queued, and tried again with a remedy."""

import os

import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.claiming import run_processes
from nanochat_core.runs.presets import with_preset
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import RunStatus
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


def test_what_cannot_start_stays_in_the_queue_with_its_reason(data, home):
    run_queue.add(settings_of(data))
    os.unlink(data)
    assert run_queue.start_next() == ""
    assert "cannot be read" in run_queue.waiting()[0].error
    assert "cannot be read" in before_start.queue_html()
    run_queue.remove("mine")
    assert before_start.queue_html() == ""


@pytest.mark.parametrize(
    ("remedy", "label"),
    [
        ("Use a smaller device_batch_size (the result stays the same)", "Retry with device_batch_size 4"),
        ("Lower the learning rates (init_lr_frac) and start again", "Retry with init_lr_frac 0.2"),
        ("Start the run with as many processes as there are GPUs (nproc).", "Retry with one process"),
        ("Free some space, then go on", ""),
    ],
)
def test_a_remedy_becomes_a_button(home, remedy, label):
    run = invent_run("mine", "failed", 40, 20, device_batch_size=8, init_lr_frac=0.4)
    run.write_status(error="It went wrong.", remedy=remedy)
    view = live.look("mine")
    assert view.retry == label
    assert remedy.split("(")[0] in view.status
    assert view.can_resume


def test_the_last_remedy_of_a_batch_of_one_is_a_shorter_context():
    status = RunStatus("failed", remedy="Use a smaller device_batch_size or max_seq_len.")
    config = FinetuneConfig(data_path="x", device_batch_size=1, max_seq_len=512)
    assert launching.change_for(status, config).settings == {"max_seq_len": 256}


def test_retry_starts_the_changed_run_under_a_free_name(home, fake_training):
    fake_training("count")
    failed = invent_run("mine", "failed", 40, 20, device_batch_size=8)
    failed.write_status(error="Full.", remedy="Use a smaller device_batch_size.")
    run = launching.retry("mine")
    assert (run.tag, run.settings().device_batch_size) == ("mine-2", 4)
    assert run.wait(60).state == "finished"
