"""Watching a detached run from a terminal, which may be closed at any time without harm to the run."""

import os
import time

from nanochat_core.cli.terminal import say
from nanochat_core.runs.claiming import run_processes
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import RunStatus

LOOK_EVERY_SECONDS = 0.3


def follow(run: Run, position: int = 0) -> RunStatus:
    """Print the log of `run` from the byte `position` on, until the run is over.

    Ctrl-C asks the run to save and stop; a second one only leaves.
    """
    say(f"Run '{run.tag}' trains in the background; closing this terminal does not end it.", flush=True)
    asked = False
    while True:
        try:
            over = run.wait(timeout=LOOK_EVERY_SECONDS).is_over
            position = _print_from(run, position)
            if over and not run_processes(run):
                _print_from(run, position)
                return run.status()
        except KeyboardInterrupt:
            if asked:
                raise
            asked = True
            run.stop()
            say("\nAsked the run to save and stop ...", flush=True)
            time.sleep(LOOK_EVERY_SECONDS)


def _print_from(run: Run, position: int) -> int:
    if not run.log_file.is_file():
        return position
    with open(run.log_file, "rb") as log:
        position = min(position, log.seek(0, os.SEEK_END))  # a log that grew too long was shortened
        log.seek(position)
        new = log.read()
    say(new.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n"), end="", flush=True)
    return position + len(new)
