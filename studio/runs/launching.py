"""Start, resume, and retry runs from the app, one at a time."""

import dataclasses
import threading

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import finetuned_dir
from nanochat_core.remote.start import resume_remote_run
from nanochat_core.runs.launcher import devices_before, start_run
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import LIVE_STATES, RunStatus
from nanochat_core.system.folder_names import next_free_tag
from studio.runs import stops

_lock = threading.Lock()


class Busy(ValueError):
    """Another run trains on this machine: the same start may succeed later."""


def active_run() -> Run | None:
    """A run that trains on this machine or is about to, however it was started; the newest when there are several."""
    return next((run for run in Run.list() if is_active(run) and not run.is_remote()), None)


def is_active(run: Run) -> bool:
    """True while something works on the run: a process here, or a job that was sent off."""
    state = run.status().state
    return state in LIVE_STATES or (state == "queued" and (run.is_remote() or run.launcher() is not None))


def start(config: FinetuneConfig, nproc: int = 1, devices: str = "") -> Run:
    """Start a run on `devices` (numbers of GPUs, "" for all). Busy when another one is under way."""
    with _lock:
        _refuse_second(config.output_tag)
        run = start_run(config, nproc, devices=devices)
    stops.forget(run.tag)
    return run


def resume(tag: str) -> Run:
    """Resume a run that is over but not finished: on the processes and GPUs, or in a job, as before."""
    run = Run.open(tag)
    if run.is_remote():
        resume_remote_run(tag)
        stops.forget(tag)
        return run
    with _lock:
        _refuse_second(tag)
        run = start_run(run.settings(), int(run.read_launch().get("nproc") or 1), resume=True)
    stops.forget(tag)
    return run


def _refuse_second(tag: str) -> None:
    other = active_run()
    if other is not None and other.tag != tag:
        raise Busy(
            f"Run '{other.tag}' is training on this machine. Queue this run to start it afterwards, or stop that one."
        )


def retry_label(status: RunStatus) -> str:
    """What a new try of a failed run changes, as a button says it; "" when there is nothing to change."""
    changes = dict(status.retry or {})
    if not changes:
        return ""
    processes = changes.pop("nproc", None)
    named = [f"{name} {value:g}" for name, value in changes.items()]
    named += [] if processes is None else ["one process" if processes == 1 else f"{processes} processes"]
    return f"Retry with {', '.join(named)}"


def retry(tag: str) -> Run:
    """Start a failed run again from its beginning, with the settings that its status names, under a free name."""
    run = Run.open(tag)
    status = run.status()
    changes = dict(status.retry or {}) if status.state == "failed" else {}
    if not changes:
        raise ValueError(f"Run '{tag}' names no setting to change. Start a new run with other settings.")
    nproc = changes.pop("nproc", None) or int(run.read_launch().get("nproc") or 1)
    free = next_free_tag(finetuned_dir(), tag)
    config = dataclasses.replace(run.settings(), **changes, output_tag=free, resume=False)
    return start(config, nproc, devices_before(run))
