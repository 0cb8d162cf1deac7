"""Keeping in touch with a run that a job on the hub trains, through a small process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nanochat_core.runs.status import StopReport
from nanochat_core.system.processes import RUN_VARIABLE
from nanochat_core.system.spawn import collect, spawn

if TYPE_CHECKING:
    from nanochat_core.runs.run import Run

CANCEL = "cancel"
"""In the stop file: end the job now."""

_WATCHER = "nanochat_core.remote.watcher"
_CANCEL_SECONDS = 60.0


def start_watcher(tag: str, log_file: Path, token: str | None = None) -> int:
    """Start the watcher of the remote run `tag` and return its pid; one that finds another at work leaves at once.

    It outlives this process. token: for the hub, handed over through a pipe and never to be seen in a list of
    processes; without one the watcher uses this machine's login.
    """
    command = [sys.executable, "-m", _WATCHER, tag]
    variables = {RUN_VARIABLE: None}  # with it the watcher would count as a trainer
    with open(log_file, "ab") as log:
        process = spawn(command, variables, folder=log_file.parent, secrets=True, stdin=subprocess.PIPE, stdout=log)
    assert process.stdin is not None
    process.stdin.write((token or "").encode())
    process.stdin.close()
    collect(process)
    return process.pid


def stop_job(run: Run, wait: float | None, kill: bool) -> StopReport:
    """Leave the request to stop where the watcher finds it, and make sure that there is one: it speaks to the hub.

    wait: seconds to wait for the end. kill: then have the job cancelled, without waiting for its checkpoint.
    """
    if not run.status().is_over:
        run.request_stop()
        start_watcher(run.tag, run.path / "watcher.log")
    if wait is not None and not run.wait(wait).is_over and kill:
        run.stop_file.write_text(CANCEL)
        run.wait(_CANCEL_SECONDS)
    return StopReport(run.status().state)
