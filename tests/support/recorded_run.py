"""A run that was only recorded, and processes that sleep in its trainer's place."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.run import Run
from nanochat_core.system import processes


def write_data(folder: Path) -> Path:
    """A data file of two conversations."""
    path = folder / "mydata.jsonl"
    path.write_text('{"messages": []}\n\n{"messages": []}\n')
    return path


def record(folder: Path) -> Run:
    """The run `mine` of a data file in `folder`."""
    return create_run(FinetuneConfig(data_path=str(write_data(folder)), output_tag="mine"))


@contextlib.contextmanager
def sleepers() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts processes that sleep (and ignore SIGTERM when asked); all are gone afterwards."""
    started = []

    def start(environment=None, stubborn=False):
        ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if stubborn else ""
        code = f"import signal, time; {ignore} print('ready', flush=True); time.sleep(60)"
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}
        )
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()


def supervised(run, process, state="running"):
    """Make `process` the run's supervisor, as the launcher records it."""
    run.write_launch(**processes.identity(process.pid).to_dict(), detached=True)
    run.write_status(state=state)
