"""Of all processes that would train a run one has it."""

import subprocess
import sys

import pytest

from nanochat_core.runs.claiming import claim, run_processes
from nanochat_core.system import processes
from tests.support.recorded_run import supervised

pytestmark = pytest.mark.processes


def test_a_second_process_cannot_claim_a_running_run(run, sleeper):
    process = sleeper()
    supervised(run, process)
    with pytest.raises(ValueError, match=rf"already running \(pid {process.pid}\).*runs stop mine"):
        claim(run, ["train"])
    process.kill()
    process.wait()
    claim(run, ["train"])
    assert run.launcher() == processes.identity()
    assert run.read_launch()["command"] == ["train"]
    claim(run, ["again"])  # by the same process


def test_an_orphan_of_the_run_keeps_it_claimed(run, sleeper):
    orphan = sleeper({processes.RUN_VARIABLE: str(run.path)})
    assert [who.pid for who in run_processes(run)] == [orphan.pid]
    with pytest.raises(ValueError, match=f"pid {orphan.pid}"):
        claim(run, ["train"])


def test_a_run_that_is_over_gets_a_moment_to_leave(run, sleeper):
    process = sleeper()
    supervised(run, process, "stopped")
    leaving = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.5); os.kill({process.pid}, 9)"])
    claim(run, ["train"])
    leaving.wait()
    assert run.launcher() == processes.identity()


def test_of_two_claims_at_once_one_wins(run):
    code = (
        "import sys, time\nfrom nanochat_core.runs.run import Run\n"
        "from nanochat_core.runs.claiming import claim\nsys.stdin.readline()\n"
        "try:\n    claim(Run.open('mine'), ['x'])\n    print('won', flush=True)\n"
        "except ValueError:\n    print('lost', flush=True)\nsys.stdin.readline()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    rivals = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(3)]
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    answers = sorted(rival.stdout.readline().strip() for rival in rivals)
    for rival in rivals:
        rival.communicate("end\n")
    assert answers == ["lost", "lost", "won"]
