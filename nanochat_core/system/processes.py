"""Which process is meant: a pid alone is reused, so it is joined with its start and the boot it belongs to.

None of the three depends on the wall clock, which is set, corrected and stepped while a run trains for days.
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

RUN_VARIABLE = "NANOCHAT_STUDIO_RUN"
"""Environment variable with the run's folder, in every process of a run: it finds those whose parent is gone."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessIdentity:
    """One process for all time: a second one with all three values does not exist."""

    pid: int
    start: float
    """Linux: clock ticks from the boot to the process's start (proc(5), starttime). Elsewhere: seconds since 1970 as
    the kernel noted them at the start, which a later change of the clock leaves alone."""
    boot_id: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ProcessIdentity | None":
        """The identity in a launch record; None when the record holds none."""
        try:
            return cls(int(values["pid"]), float(values["start"]), str(values["boot_id"]))
        except (KeyError, TypeError, ValueError):
            return None


def boot_id() -> str:
    """What is the same until the machine is started again; "" where a process's start is enough to tell it."""
    return _BOOT_ID.read_text().strip() if _BOOT_ID.is_file() else ""


def _start_of(process: psutil.Process) -> float:
    """ProcessIdentity.start. Linux's psutil would compute it from the wall clock as it is now."""
    if not _BOOT_ID.is_file():
        return process.create_time()
    try:
        line = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(process.pid) from error
    return float(line.rpartition(")")[2].split()[19])  # the name before it may hold blanks and parentheses


def identity(pid: int | None = None) -> ProcessIdentity:
    """Identity of a living process (default: this one). Raises ProcessLookupError when there is none."""
    try:
        process = psutil.Process(pid)
        return ProcessIdentity(process.pid, _start_of(process), boot_id())
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(f"There is no process {pid}.") from error


def is_alive(who: ProcessIdentity | None) -> bool:
    """True while exactly that process runs; a zombie, which only waits to be collected, has ended."""
    return _find(who) is not None


def _find(who: ProcessIdentity | None) -> psutil.Process | None:
    if who is None or who.boot_id != boot_id():
        return None
    try:
        process = psutil.Process(who.pid)
        if _start_of(process) != who.start:
            return None
        return process if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else None
    except (psutil.NoSuchProcess, ValueError):  # ValueError: a pid below 0 in an edited file
        return None


def tree(root: ProcessIdentity | None) -> list[ProcessIdentity]:
    """`root` and all its living descendants, root first; empty when root is gone."""
    process = _find(root)
    if process is None:
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        return _identities([process, *process.children(recursive=True)])
    return []


def marked(folder: Path) -> list[ProcessIdentity]:
    """Living processes whose environment names `folder` as their run, also when their parent is gone."""
    wanted = str(folder)
    found = []
    for process in psutil.process_iter():
        # Other people's processes cannot be read, and none of them belongs to our run.
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(RUN_VARIABLE) == wanted:
                found.append(process)
    return _identities(found)


def _identities(processes: Iterable[psutil.Process]) -> list[ProcessIdentity]:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                found.append(ProcessIdentity(process.pid, _start_of(process), boot_id()))
    return found


def terminate(who: ProcessIdentity) -> None:
    """Ask one process to end (SIGTERM); nothing happens when it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if process := _find(who):
            process.terminate()


def kill(processes: Iterable[ProcessIdentity], wait_seconds: float = 10.0) -> list[ProcessIdentity]:
    """End processes by SIGKILL and wait until they are gone. Returns those that are still there."""
    processes = list(processes)
    for who in processes:
        assert who.pid != os.getpid(), "a process must not kill itself here"
        with contextlib.suppress(psutil.NoSuchProcess):
            if process := _find(who):
                process.kill()
    return wait_gone(processes, wait_seconds)


def end_tree(root: ProcessIdentity, grace_seconds: float = 5.0) -> list[ProcessIdentity]:
    """End a process with all its descendants: SIGTERM to each, SIGKILL after the grace. Returns the survivors."""
    members = tree(root)
    for who in members:
        terminate(who)
    return kill(wait_gone(members, grace_seconds)) if members else []


def wait_gone(processes: Iterable[ProcessIdentity], seconds: float) -> list[ProcessIdentity]:
    """Wait until every process is gone, at most `seconds`. Returns those that are not."""
    limit = time.monotonic() + seconds
    alive = [who for who in processes if is_alive(who)]
    while alive and time.monotonic() < limit:
        time.sleep(0.05)
        alive = [who for who in alive if is_alive(who)]
    return alive


def peak_bytes(pid: int | None = None) -> float:
    """The most memory that a process (default: this one) had; NaN for another one where there is no /proc.

    It is Linux's VmHWM, mapped file pages included. getrusage's ru_maxrss would not do there: after a fork and exec
    it still holds the size of the process that forked, such as the app that starts a run.
    """
    status = Path(f"/proc/{pid or 'self'}/status")
    if Path("/proc/self/status").exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    if pid is not None:
        return math.nan
    import resource  # noqa: PLC0415  not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on macOS
