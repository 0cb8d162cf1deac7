"""The process that follows a remote run until it is over: `python -m nanochat_core.remote.watcher TAG`, one a run."""

import sys
import time

from filelock import FileLock, Timeout

from nanochat_core.remote.state import RemoteLaunch
from nanochat_core.remote.sync import sync_remote_run
from nanochat_core.runs.run import Run

_LOOK_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 300.0
_STOPPING_SECONDS = 3.0  # somebody waits for the end


def watch(run: Run, token: str | None = None) -> None:
    """Follow `run` until it is over. Returns at once when another process does so already."""
    try:
        with FileLock(run.path / ".watch.lock", timeout=1):
            _watch(run, token)
    except Timeout:
        print(f"Run '{run.tag}' is followed by another process already.", flush=True)


def _watch(run: Run, token: str | None) -> None:
    poll = RemoteLaunch.from_dict(run.read_launch()).poll_seconds
    wait = poll
    said = None
    while not (status := sync_remote_run(run, token)).is_over:
        trouble = status.trouble
        if trouble and trouble != said:
            print(trouble, flush=True)
        said = trouble
        usual = min(poll, _STOPPING_SECONDS) if run.stop_requested() else poll
        wait = min(wait * 2, _LONGEST_WAIT_SECONDS) if trouble else usual
        _sleep(run, wait)


def _sleep(run: Run, seconds: float) -> None:
    """Until it is time, or until somebody asks the run to stop."""
    limit = time.monotonic() + seconds
    before = _stop_time(run)
    while time.monotonic() < limit and _stop_time(run) == before:
        time.sleep(min(_LOOK_SECONDS, seconds))


def _stop_time(run: Run) -> int | None:
    return run.stop_file.stat().st_mtime_ns if run.stop_file.exists() else None


if __name__ == "__main__":
    given = sys.stdin.read().strip()  # never in the command, which anybody on the machine can list
    watch(Run.open(sys.argv[1]), given or None)
