"""The processes of a run: which ones are its own, and that only one at a time may train it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from nanochat_core.runs.folders import refuse_links
from nanochat_core.runs.status import LIVE_STATES
from nanochat_core.system import processes
from nanochat_core.system.files import now, read_json, write_json
from nanochat_core.system.processes import ProcessIdentity

if TYPE_CHECKING:
    from nanochat_core.runs.run import Run

_LEAVING_SECONDS = 20.0  # a run that has said "stopped" still needs a moment until its processes are gone


def run_processes(run: Run) -> list[ProcessIdentity]:
    """Living processes of the run, orphans included. A program that trains it by itself counts until it is over."""
    launch = run.read_launch()
    launcher = ProcessIdentity.from_dict(launch)
    found = processes.marked(run.path)
    if launch.get("detached"):
        found = processes.tree(launcher) + found
    elif launcher is not None and processes.is_alive(launcher) and not run.status().is_over:
        found = [launcher, *found]
    return list({who.pid: who for who in found}.values())


def claim(run: Run, command: list[str], detached: bool = False) -> None:
    """Make this process the run's only trainer. ValueError while another one lives.

    A run that has just said it is over gets a moment to leave. detached: the process is a supervisor of its own,
    which may be signalled; a notebook or a terminal's program that trains by itself may not.
    """
    with claimed(run):
        me = processes.identity().to_dict()
        write_json(run.launch_file, {**me, "command": command, "detached": detached, "started": now()})


@contextlib.contextmanager
def claimed(run: Run) -> Iterator[None]:
    """Within it, no other process can claim the run, and none is running. ValueError when one is."""
    refuse_links(run.path)
    with FileLock(run.path / ".launch.lock", timeout=60):
        others = [who for who in run_processes(run) if who.pid != os.getpid()]
        if others and run.status().is_over:
            others = processes.wait_gone(others, _LEAVING_SECONDS)
        if others:
            raise ValueError(
                f"Run '{run.tag}' is already running (pid {others[0].pid}). "
                f"Wait for it, or stop it first: `python -m nanochat_core runs stop {run.quoted}`."
            )
        yield


def training_lock(run: Run) -> FileLock:
    """Held by the process that trains the run as its first rank, for as long as it does."""
    return FileLock(run.path / ".trainer.lock")


def is_trained(run: Run) -> bool:
    """Whether a process lives that trains the run, by everything that tells: launcher, lock, and marked processes.

    A notebook outlives the training in it: once the trainer has held its lock, the lock counts. A supervisor may be
    killed while a rank hangs: then the rank counts.
    """
    launch = run.read_launch()
    launcher = ProcessIdentity.from_dict(launch)
    if not processes.is_alive(launcher):
        return bool(launch.get("detached")) and _is_live(run) and bool(processes.marked(run.path))
    return bool(launch.get("detached")) or not _is_left(run)


def _is_live(run: Run) -> bool:
    return read_json(run.status_file).get("state") in LIVE_STATES


def _is_left(run: Run) -> bool:
    """Whether a program that trains by itself has said that it trains, and no longer does."""
    if read_json(run.status_file).get("state") not in ("running", "stopping"):
        return False
    lock = training_lock(run)
    if not Path(lock.lock_file).is_file():
        return False
    try:
        with lock.acquire(timeout=0):
            return True
    except (Timeout, OSError):  # held; or a folder that only its owner may write to
        return False
