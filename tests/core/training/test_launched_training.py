"""Launched runs that really train: two processes, a dead rank, a dead supervisor, stop and resume."""

import os
import signal
import time

import psutil
import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import steps
from nanochat_core.runs.claiming import run_processes
from nanochat_core.runs.launcher import start_run
from nanochat_core.runs.run import Run
from nanochat_core.system import processes
from tests.support.tiny import install_tiny_model, write_conversations

pytestmark = pytest.mark.processes


@pytest.fixture
def config(home, tmp_path):
    """A run that is much too long to finish by itself; its processes are ended after the test."""
    data = write_conversations(tmp_path / "mydata.jsonl", 40)
    settings = {"eval_every": 1000, "max_seq_len": 128, "target_examples_per_step": 4, "num_iterations": 100_000}
    yield FinetuneConfig(
        str(data), model_tag=install_tiny_model(home), output_tag="mine", device_type="cpu", dtype="float32", **settings
    )
    for run in Run.list():
        assert processes.kill(run_processes(run)) == []


def until(condition, seconds=120):
    """Wait for something that must happen; the limit is only there to end a broken test."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.05)
    return found


def train_for_a_while(run, steps=2):
    """Wait until a launched run has done some steps from where it was. Returns its workers by rank."""
    start = run.status().step
    until(lambda: run.status().step >= start + steps or run.status().is_over)
    assert run.status().state == "running", run.log_tail()
    workers = processes.tree(run.launcher())[1:]
    return sorted(workers, key=lambda who: int(psutil.Process(who.pid).environ()["RANK"]))


def test_two_ranks_stop_resume_and_fail_with_the_rank_and_cause_when_one_is_killed(config):
    run = start_run(config, nproc=2)
    assert len(train_for_a_while(run)) == 2
    report = run.stop(wait=60)
    assert (report.state, report.killed, report.alive) == ("stopped", (), ())
    assert run.status().step in steps(run.path)
    again = start_run(run.settings(), nproc=2, resume=True)
    workers = train_for_a_while(again)
    trained = again.metrics().dropna(subset="train_loss")["step"].tolist()
    assert trained == list(range(1, len(trained) + 1))
    os.kill(workers[1].pid, signal.SIGKILL)
    status = again.wait(60)
    assert status.state == "failed"
    assert "rank 1" in status.error
    assert "memory" in status.error
    assert run_processes(again) == []


def test_a_worker_whose_supervisor_is_killed_saves_and_leaves(config):
    run = start_run(config)
    train_for_a_while(run)
    os.kill(run.launcher().pid, signal.SIGKILL)
    until(lambda: run_processes(run) == [])
    assert run.status().state in ("stopped", "interrupted")
    assert run.status().step in steps(run.path)
