"""The state of a run is that of its process, whatever its files say."""

import math
import time

import psutil
import pytest

from nanochat_core.runs.claiming import claimed
from nanochat_core.runs.status import derive
from nanochat_core.system import processes
from tests.support.recorded_run import supervised

pytestmark = pytest.mark.processes


def test_status_merges_and_beats(run):
    before = time.time()
    run.write_status(state="starting", steps=20)
    run.write_status(step=3, best_val_loss=math.inf, note="hello")
    status = run.status()
    assert (status.step, status.steps, status.best_val_loss, status.more) == (3, 20, None, {"note": "hello"})
    assert before <= status.heartbeat <= time.time()


def test_a_live_state_without_its_process_is_interrupted(run, sleeper):
    process = sleeper()
    for state in ("queued", "starting", "running", "stopping"):
        supervised(run, process, state)
        assert run.status().state == state
    process.kill()  # not waited for: a zombie has ended, too
    assert processes.wait_gone([run.launcher()], 10) == []
    for state in ("queued", "starting", "running", "stopping"):
        run.write_status(state=state)
        assert run.status().state == "interrupted"
        assert "runs resume mine" in run.status().remedy
        assert derive(
            {"state": state}, launched=True, alive=False, stop_requested=False, tag="my bakery"
        ).remedy.endswith("runs resume 'my bakery'`.")
    for state in ("finished", "stopped", "failed"):
        run.write_status(state=state)
        assert run.status().state == state


@pytest.mark.parametrize(
    "change", [{"start": 1.0}, {"boot_id": "another boot"}, {"pid": -5}, {"pid": "x"}, {"start": None}]
)
def test_a_reused_pid_is_not_the_run(run, sleeper, change):
    supervised(run, sleeper())
    run.write_launch(**change)
    assert run.status().state == "interrupted"


@pytest.mark.parametrize("seconds", [-3600.0, -5.0, 5.0, 86400.0])
def test_a_step_of_the_clock_ends_no_run(run, sleeper, monkeypatch, seconds):
    """Linux computes a process's start time from the boot's, which moves when the clock is set."""
    supervised(run, sleeper())
    create_time, boot_time = psutil.Process.create_time, psutil.boot_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + seconds)
    monkeypatch.setattr(psutil, "boot_time", lambda: boot_time() + seconds)
    assert run.status().state == "running"
    with pytest.raises(ValueError, match="already running"), claimed(run):
        pass


def test_a_stop_request_shows_before_the_trainer_has_seen_it(run, sleeper):
    supervised(run, sleeper())
    run.request_stop()
    assert run.status().state == "stopping"
    run.clear_stop()
    assert run.status().state == "running"


@pytest.mark.parametrize("text", ["", "[]", "\x00\xff", '{"state": "dancing"}', '{"state": 3, "step"'])
def test_a_foreign_status_file_does_not_break_the_reader(run, text):
    run.status_file.write_text(text)
    assert run.status().state == "queued"
