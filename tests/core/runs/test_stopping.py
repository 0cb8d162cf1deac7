"""A run is stopped for certain: asked, waited for, and ended by force with all its processes."""

import contextlib
import re
import subprocess
import sys
import threading

import pytest

from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.runs import stopping
from nanochat_core.runs.claiming import claim, run_processes
from nanochat_core.system import processes
from tests.support.recorded_run import supervised

pytestmark = pytest.mark.processes


def test_stop_of_a_queued_run_needs_no_process(run):
    assert run.stop().state == "stopped"
    assert run.wait(5).state == "stopped"


def test_stop_of_a_finished_run_leaves_no_request(run):
    run.write_status(state="finished")
    assert run.stop(wait=1).state == "finished"
    assert not run.stop_requested()


def test_stop_ends_the_supervisor_of_a_run_that_has_not_begun(run, sleeper):
    process = sleeper()
    supervised(run, process, "starting")
    report = run.stop(wait=10)
    assert process.wait() < 0
    assert report.alive == ()


def test_stop_asks_only_and_reports_what_still_runs(run, sleeper):
    process = sleeper()
    supervised(run, process)
    report = run.stop(wait=0.2)
    assert run.stop_requested()
    assert [who.pid for who in report.alive] == [process.pid]
    assert report.state == "stopping"


def test_the_state_of_a_report_is_that_after_the_waiting(run, sleeper):
    process = sleeper()
    supervised(run, process)
    threading.Timer(0.5, process.kill).start()
    assert run.stop(wait=10).state == "interrupted"


def test_stop_with_kill_ends_even_stubborn_processes_and_orphans(run, sleeper, monkeypatch):
    monkeypatch.setattr("nanochat_core.runs.stopping._TERM_SECONDS", 0.5)
    process, orphan = sleeper(stubborn=True), sleeper({processes.RUN_VARIABLE: str(run.path)}, stubborn=True)
    supervised(run, process)
    report = run.stop(wait=0.1, kill=True)
    assert report.alive == ()
    assert {who.pid for who in report.killed} == {process.pid, orphan.pid}
    assert run_processes(run) == []
    assert report.state == "stopped"
    assert "ended by force" in run.status().error


SAVER = """
import pathlib, sys, time
run, pieces, stuck = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "stuck"
print("ready", flush=True)
while not (run / "stop").exists():
    time.sleep(0.02)
temporary = run / ".model_000003.pt.abc.tmp"
with open(temporary, "ab") as file:
    for _ in range(pieces):
        time.sleep(0.1)
        file.write(b"x" * 1000)
        file.flush()
if stuck:
    time.sleep(60)
temporary.rename(run / "model_000003.pt")
"""


@contextlib.contextmanager
def saver(run, pieces, how):
    """A trainer that writes its checkpoint in so many pieces, 0.1 s each, when it is asked to stop."""
    command = [sys.executable, "-c", SAVER, str(run.path), str(pieces), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    supervised(run, process)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_run_that_still_saves_is_not_ended_by_force(run):
    with saver(run, 40, "well") as process:
        report = run.stop(wait=1.5, kill=True)  # 4 s of saving, without ever 1.5 s of silence
        assert report.killed == report.alive == ()
        assert process.wait() == 0
    assert (run.path / "model_000003.pt").stat().st_size == 40_000


def test_a_run_whose_file_no_longer_grows_is_ended_by_force(run, monkeypatch):
    monkeypatch.setattr(stopping, "_TERM_SECONDS", 0.5)
    with saver(run, 3, "stuck"):
        assert run.stop(wait=1.0, kill=True).alive == ()
    assert run.status().state == "stopped"
    assert "ended by force" in run.status().error


def test_a_heartbeat_is_a_sign_of_life_and_silence_is_waited_for_once(run):
    run.write_status(state="running")
    looks = []

    def is_done():
        looks.append(True)
        if len(looks) < 30:
            run.write_status(step=len(looks))
        return False

    assert not stopping.wait_while_alive(run.path, is_done, 0.3)
    assert len(looks) > 30


def test_there_is_one_time_to_save():
    assert stopping.SAVE_SECONDS == 600
    files = [path for folder in ("nanochat_core", "studio") for path in (PROJECT_ROOT / folder).rglob("*.py")]
    users = {path.stem for path in files if "SAVE_SECONDS" in path.read_text(encoding="utf-8")}
    assert {"stopping", "stops", "state", "runs"} <= users
    waiting = [path for path in files if {"runs", "remote", "training", "train_tab"} & set(path.parts)]
    others = [path.name for path in waiting if re.search(r"\b(180|900)(\.0)?$", path.read_text(), re.MULTILINE)]
    assert others == []


def test_stop_never_kills_a_program_that_trains_by_itself(run):
    claim(run, ["notebook"])
    run.write_status(state="running")
    report = run.stop(wait=0.1, kill=True)  # this very process
    assert report.killed == report.alive == ()
    assert run.stop_requested()


def test_wait_ends_when_the_process_goes_or_the_time_is_up(run, sleeper):
    process = sleeper()
    supervised(run, process)
    assert run.wait(0.2).state == "running"
    process.kill()
    assert run.wait(10).state == "interrupted"


def test_end_tree_ends_grandchildren(sleeper):
    code = (
        "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child = processes.identity(int(parent.stdout.readline()))
    assert processes.end_tree(processes.identity(parent.pid)) == []
    assert not processes.is_alive(child)
    parent.wait()
    parent.stdout.close()
