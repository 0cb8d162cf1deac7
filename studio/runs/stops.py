"""Stopping runs from the app: asked once, escalated after a stated time, and told step by step."""

import threading
import time
from dataclasses import dataclass

from nanochat_core.paths import steps
from nanochat_core.remote.state import STOP_SECONDS
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import LIVE_STATES, RunStatus, StopReport
from nanochat_core.runs.stopping import SAVE_SECONDS
from studio.parts.html import duration


@dataclass
class _Stop:
    """One stop, followed in a thread of its own so that no browser has to stay."""

    started: float
    thread: threading.Thread
    report: StopReport | None = None


_stops: dict[str, _Stop] = {}
_lock = threading.Lock()


def stop(run: Run, force_after: float = SAVE_SECONDS) -> None:
    """Ask `run` to save and stop; a second call meanwhile changes nothing.

    A remote run is only asked: its watcher cancels the job when it does not stop.
    """
    if run.is_remote():
        run.stop()
        return
    with _lock:
        known = _stops.get(run.tag)
        if known is not None and known.thread.is_alive():
            return
        thread = threading.Thread(target=_follow, args=(run, force_after), name=f"stop-{run.tag}", daemon=True)
        _stops[run.tag] = _Stop(time.monotonic(), thread)
        thread.start()


def forget(tag: str) -> None:
    """The run starts over: what is known of its last stop no longer holds."""
    with _lock:
        _stops.pop(tag, None)


def wait(tag: str, timeout: float) -> None:
    """Wait until the stop of `tag` has been followed to its end."""
    known = _stops.get(tag)
    if known is not None:
        known.thread.join(timeout)


def _follow(run: Run, force_after: float) -> None:
    report = run.stop(wait=force_after, kill=True)
    with _lock:
        if run.tag in _stops:
            _stops[run.tag].report = report


def sentence(run: Run, status: RunStatus) -> tuple[str, str]:
    """(what the stop is doing or has done, kind of note); ("", "") when there is nothing to say."""
    known = _stops.get(run.tag)
    if known is None:
        if status.state == "stopping":
            asked = "A stop was asked for: the step is being finished and a checkpoint saved."
            if run.is_remote():
                asked += f" If the job is silent for {duration(STOP_SECONDS)}, it is cancelled."
            return asked, "warn"
        return (_kept(run), "") if status.state == "stopped" else ("", "")
    if known.report is None:
        return _under_way(known, status), "warn"
    if known.report.alive:
        pids = ", ".join(str(who.pid) for who in known.report.alive)
        return f"These processes are still there and cannot be ended: {pids}.", "bad"
    if status.state in LIVE_STATES:
        return "", ""
    end = "All its processes are gone (checked)."
    if known.report.killed:
        return f"It did not stop by itself and was ended by force. {_kept(run)} {end}", "warn"
    return f"{_kept(run)} {end}", "good"


def _under_way(known: _Stop, status: RunStatus) -> str:
    since = time.monotonic() - known.started
    doing = "ending its processes" if status.is_over else "finishing the step and saving"
    return (
        f"Stopping for {duration(since)}: {doing}. After {duration(SAVE_SECONDS)} without a sign of life it is ended "
        "by force; the last checkpoint then remains."
    )


def _kept(run: Run) -> str:
    step = run.status().step
    saved = steps(run.path)
    if not saved:
        return f"Ended at step {step}, before there was a checkpoint."
    return f"Ended at step {step}; the checkpoint of step {saved[-1]} is kept."
