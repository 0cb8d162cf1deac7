"""A run is stopped for certain: asked, waited for, and ended by force with all its processes."""

import subprocess
import sys

from nanochat_core.system import processes
from tests.support.recorded_run import supervised


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


def test_stop_with_kill_ends_even_stubborn_processes_and_orphans(run, sleeper, monkeypatch):
    monkeypatch.setattr("nanochat_core.runs.run._TERM_SECONDS", 0.5)
    process, orphan = sleeper(stubborn=True), sleeper({processes.RUN_VARIABLE: str(run.path)}, stubborn=True)
    supervised(run, process)
    report = run.stop(wait=0.1, kill=True)
    assert report.alive == ()
    assert {who.pid for who in report.killed} == {process.pid, orphan.pid}
    assert run.processes() == []
    assert report.state == "stopped"
    assert "ended by force" in run.status().error


def test_stop_never_kills_a_program_that_trains_by_itself(run):
    run.claim(["notebook"])
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
