"""A run's checkpoints are published as they come, until it is over."""

import signal
import subprocess
import sys
import time

import pytest

from nanochat_core.paths import steps
from tests.support.hub_process import environment
from tests.support.published_run import EXPORTED, REPO, TOKEN, make_run, save

pytestmark = pytest.mark.processes

FOLLOW = """
import sys
from nanochat_core.publish import following
following.LOOK_EVERY_SECONDS = 0.1
following.publish_following("mine", sys.argv[1], every_minutes=0.0, first_wait=0.2,
                            say=lambda text: print(text, flush=True))
"""


@pytest.fixture
def follower(hub, home):
    """A process that follows the run `mine`; ended with the test, whatever becomes of it."""
    processes = []

    def follower():
        command = [sys.executable, "-c", FOLLOW, REPO]
        env = environment(hub, home, HF_TOKEN=TOKEN)
        processes.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield follower
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(condition, process, seconds=120):
    """Until `condition` holds; a follower that has ended is told at once, with what it said."""
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit, "it did not come to pass"
        time.sleep(0.05)


def test_each_new_checkpoint_is_pushed_until_the_run_is_over(home, hub, follower):
    run = make_run(home, state="running", step=10)
    run.write_launch(**trainer_identity())
    hub.refused_commits = [500, 503]
    process = follower()
    wait_for(lambda: "model_000010.pt" in hub.files, process)
    assert not EXPORTED & set(hub.files)
    assert "is still going on: this is step 10 of 40" in hub.files["README.md"].decode()
    save(run, 20)
    wait_for(lambda: "model_000020.pt" in hub.files, process)
    assert "model_000010.pt" not in hub.files
    save(run, 40)
    run.write_status(state="finished", step=40)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert set(hub.files) > EXPORTED
    assert steps(run.path) == [10, 20, 40]
    assert out.count("the training is not touched by this") == 2
    assert [commit["summary"] for commit in hub.commits][:2] == ["Step 10", "Step 20"]
    assert "going on" not in hub.files["README.md"].decode()


def trainer_identity():
    """Stands for the run's trainer: this process, which lives."""
    from nanochat_core.system import processes

    return processes.identity().to_dict()


def test_a_follower_that_is_killed_leaves_no_debris_and_another_goes_on(home, hub, follower, published):
    make_run(home)
    hub.holds_commits = True
    process = follower()
    assert hub.is_sending_half.wait(120)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    hub.holds_commits = False
    assert list((home / "models").glob(".publishing-*/*")), "the killed one left nothing to remove"
    assert published("--model", "finetuned/mine", REPO, "--follow", "--every", "0")[0] == 0
    assert "model_000040.pt" in hub.files
    assert not list((home / "models").glob(".publishing-*/*"))
