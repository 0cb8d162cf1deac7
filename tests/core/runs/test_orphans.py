"""A worker whose launcher is killed ends itself: asked first, by force after the grace."""

import os
import signal
import subprocess
import sys

import pytest

from nanochat_core.runs.stopping import ORPHAN_EXIT_STATUS, launcher_from_environment, watch_launcher
from nanochat_core.system.processes import identity

pytestmark = pytest.mark.processes

LAUNCHER = """
import subprocess, sys, time
from nanochat_core.runs.stopping import announce_launcher
announce_launcher()
subprocess.Popen([sys.executable, "-c", sys.argv[1]])
time.sleep(60)
"""
WORKER = """
import os, pathlib, signal, threading, time
from nanochat_core.runs.stopping import launcher_from_environment, watch_launcher
asked = threading.Event()
launcher = launcher_from_environment()
watch_launcher(launcher, {on_gone}, pathlib.Path({folder!r}), grace_seconds={grace})
print("watching", launcher.pid, flush=True)
{then}
print("left by itself", flush=True)
"""


@pytest.mark.parametrize(
    ("on_gone", "grace", "then", "last_words"),
    [
        ("asked.set", 60, "asked.wait()", "left by itself"),
        ("asked.set", 0.2, "threading.Event().wait()", "ending now"),
        ("lambda: 1 / 0", 0.2, "threading.Event().wait()", "ending now"),
    ],
)
def test_a_worker_leaves_when_its_launcher_is_killed(tmp_path, on_gone, grace, then, last_words):
    worker = WORKER.format(folder=str(tmp_path), on_gone=on_gone, grace=grace, then=then)
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, worker], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout.readline().split() == ["watching", str(launcher.pid)]
    os.kill(launcher.pid, signal.SIGKILL)  # not waited for: it stays a zombie, and counts as gone all the same
    said = launcher.stdout.read()  # ends when the worker, which holds the other end, has ended
    assert f"launcher (pid {launcher.pid}) is gone" in said
    assert last_words in said
    launcher.wait()
    launcher.stdout.close()


def test_a_process_started_by_hand_is_not_watched(tmp_path, monkeypatch):
    monkeypatch.delenv("NANOCHAT_STUDIO_LAUNCHER", raising=False)
    assert launcher_from_environment() is None
    assert watch_launcher(None, lambda: None, tmp_path) is None


def test_a_living_launcher_is_left_alone(tmp_path):
    asked = []
    thread = watch_launcher(identity(), lambda: asked.append(True), tmp_path, 0)
    thread.join(1.2)
    assert thread.is_alive()
    assert asked == []


def test_the_hard_end_has_a_status_of_its_own():
    code = (
        "import pathlib, threading\nfrom nanochat_core.runs.stopping import watch_launcher\n"
        "from nanochat_core.system.processes import ProcessIdentity\n"
        "watch_launcher(ProcessIdentity(1, 0.0, 'gone'), print, pathlib.Path('nowhere'), 0)\nthreading.Event().wait()"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == ORPHAN_EXIT_STATUS
