"""How a run is stopped: asked, given the time to save, and ended by force only when it shows no sign of life.

What anyone does who wants a run to stop stands first, then what the training processes do that are asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanochat_core.runs.claiming import run_processes
from nanochat_core.runs.job_watcher import stop_job
from nanochat_core.runs.status import Silence, StopReport
from nanochat_core.system import processes
from nanochat_core.system.files import read_json
from nanochat_core.system.processes import ProcessIdentity, identity, is_alive

if TYPE_CHECKING:
    from nanochat_core.runs.run import Run

SAVE_SECONDS = 600.0
"""A run that was asked to stop is ended by force after this long without a sign of life.

d32 saves 16 GB. Nobody knows how fast a disk is, but while a file grows, it works. What shows nothing is a long step,
or the system writing out what it had taken into memory.
"""

BEATS = ".beats"
"""Folder in which each rank of several writes how many steps it has computed; the slowest holds up a stalled run."""

LAUNCHER_VARIABLE = "NANOCHAT_STUDIO_LAUNCHER"
"""Environment variable in which the launcher hands its identity to the processes that it starts."""

ORPHAN_EXIT_STATUS = 75
_TERM_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_LOOK_AT_LAUNCHER_SECONDS = 0.5


def stop(run: Run, wait: float | None = None, kill: bool = False) -> StopReport:
    """Ask the run to save and stop; one that has not begun to train is ended at once.

    wait: seconds to wait for its processes to be gone; without it the request is all.
    kill: the seconds then count from the last sign of life, and what is left after them gets SIGTERM and, after 10 s
    more, SIGKILL; the report says what remains.
    """
    if run.is_remote():
        return stop_job(run, wait, kill)
    if not run.status().is_over:
        run.request_stop()
        if not run.has_begun():
            _end_before_training(run)
    if wait is None:
        return StopReport(run.status().state)
    members = _stoppable(run)
    if not kill:
        alive = processes.wait_gone(members, wait)
        return StopReport(run.status().state, alive=tuple(alive))
    if wait_while_alive(run.path, lambda: not any(map(is_alive, members)), wait):
        return StopReport(run.status().state)
    killed, alive = _end_by_force(run)
    return StopReport(run.status().state, tuple(killed), tuple(alive))


def wait_while_alive(folder: Path, is_done: Callable[[], bool], seconds: float = SAVE_SECONDS) -> bool:
    """Wait until `is_done`. False when the run in `folder` has shown no sign of life for so many `seconds`."""
    signs, seen = signs_of_life(folder), time.monotonic()
    while not is_done():
        present, now = signs_of_life(folder), time.monotonic()
        if present != signs:
            signs, seen = present, now
        elif now - seen > seconds:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def signs_of_life(folder: Path) -> tuple[object, dict[str, int]]:
    """What changes while the run in `folder` works: its heartbeat, and the temporary files of a checkpoint."""
    sizes = {}
    for place in (folder, folder / "resume"):
        for path in place.glob("*.tmp"):
            with contextlib.suppress(FileNotFoundError):  # it has got its name meanwhile
                sizes[path.name] = path.stat().st_size
    return read_json(folder / "status.json").get("heartbeat"), sizes


def silence(folder: Path, written: dict[str, Any]) -> Silence | None:
    """How long the living run in `folder` has shown no sign of life, and which rank holds it up; None if unknown.

    By a clock that no one sets (all processes of a boot share it); a growing file of a checkpoint counts, too.
    """
    if not isinstance(written.get("beat"), int | float):
        return None
    seconds = time.monotonic() - written["beat"]
    for path in [*folder.glob(".*.tmp"), *folder.glob("resume/.*.tmp")]:
        with contextlib.suppress(FileNotFoundError):
            seconds = min(seconds, max(0.0, time.time() - path.stat().st_mtime))
    return Silence(seconds, _slowest(folder))


def _slowest(folder: Path) -> int | None:
    """The rank that has computed fewer steps than all others; None when there is no such one."""
    done: dict[int, int] = {}
    for path in folder.glob(f"{BEATS}/*"):
        with contextlib.suppress(OSError, ValueError):
            done[int(path.name)] = int(path.read_text())
    fewest = [rank for rank, count in done.items() if count == min(done.values())]
    return fewest[0] if len(fewest) == 1 and len(done) > 1 else None


def _end_before_training(run: Run) -> None:
    """Nothing can be saved yet, and loading a large model would only delay the look at the stop file."""
    _signal_supervisor(run)
    processes.wait_gone(_stoppable(run), _TERM_SECONDS)
    if not run.has_begun() and not is_alive(run.launcher()):
        run.write_status(state="stopped")


def _end_by_force(run: Run) -> tuple[list[ProcessIdentity], list[ProcessIdentity]]:
    """(processes that had to be killed, those that are still there)."""
    left = _stoppable(run)
    _signal_supervisor(run)
    killed = processes.wait_gone(left, _TERM_SECONDS)
    alive = processes.kill({who.pid: who for who in [*killed, *_stoppable(run)]}.values())
    if not alive and run.status().state == "interrupted":
        run.write_status(
            state="stopped",
            error="The run did not stop by itself and was ended by force; its last checkpoint remains.",
            remedy=f"Resume from the last checkpoint with `python -m nanochat_core runs resume {run.quoted}`.",
        )
    return killed, alive


def _stoppable(run: Run) -> list[ProcessIdentity]:
    """Processes that exist for the run alone: never a notebook or an app that trains by itself."""
    alone = run.read_launch().get("detached")
    launcher = run.launcher()
    return [who for who in run_processes(run) if alone or launcher is None or who.pid != launcher.pid]


def _signal_supervisor(run: Run) -> None:
    launcher = run.launcher()
    if launcher is not None and run.read_launch().get("detached"):
        processes.terminate(launcher)


class StoppedEarly(Exception):
    """The run was asked to stop while there was nothing to save yet."""


class StopFlag:
    """Whether this process was asked to save and stop."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self, *_: object) -> None:
        """Take note of a signal; its arguments do not matter."""
        self.is_set = True


@contextlib.contextmanager
def stop_signals() -> Iterator[StopFlag]:
    """A flag that SIGTERM, SIGHUP and the first Ctrl-C set; a second Ctrl-C interrupts as usual.

    SIGHUP comes when the terminal is closed; under nohup it is ignored, and stays so.

    Python delivers signals to the main thread only; in any other thread the flag stays for others to set.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def interrupted(*_: object) -> None:
        flag.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    handlers: dict[int, Any] = {signal.SIGTERM: flag.set, signal.SIGINT: interrupted}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # not on Windows
        handlers[signal.SIGHUP] = flag.set
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def announce_launcher() -> None:
    """Called by a launcher: name this process to those it starts from now on."""
    os.environ[LAUNCHER_VARIABLE] = json.dumps(identity().to_dict())


def launcher_from_environment() -> ProcessIdentity | None:
    """The launcher of this process; None when it was started by hand."""
    text = os.environ.get(LAUNCHER_VARIABLE)
    return ProcessIdentity.from_dict(json.loads(text)) if text else None


def watch_launcher(
    launcher: ProcessIdentity | None,
    on_gone: Callable[[], object],
    folder: Path,
    grace_seconds: float = SAVE_SECONDS,
) -> threading.Thread | None:
    """Watch `launcher` from a thread; when it is gone, call `on_gone` once, and end this process after the grace.

    Nobody else would end it, and it would hold the device for ever. on_gone asks for save-and-stop and must return at
    once; it runs in the watching thread. The hard end (exit status 75, no clean-up) is for a process that hangs in a
    collective operation whose other side is gone, too: it comes when the run in `folder` has shown no sign of life for
    grace_seconds. None, a process that was started by hand, is not watched.
    """
    if launcher is None:
        return None
    thread = threading.Thread(
        target=_watch, args=(launcher, on_gone, folder, grace_seconds), name="launcher-watch", daemon=True
    )
    thread.start()
    return thread


def _watch(launcher: ProcessIdentity, on_gone: Callable[[], object], folder: Path, grace_seconds: float) -> None:
    while is_alive(launcher):
        time.sleep(_LOOK_AT_LAUNCHER_SECONDS)
    print(f"The launcher (pid {launcher.pid}) is gone: saving and stopping.", flush=True)
    try:
        on_gone()
    finally:
        wait_while_alive(folder, lambda: False, grace_seconds)
        print(f"No sign of life for {grace_seconds:g} s: ending now.", flush=True)
        os._exit(ORPHAN_EXIT_STATUS)
