"""Start, resume, and retry runs from the app, one at a time."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import finetuned_dir
from nanochat_core.remote.start import resume_remote_run
from nanochat_core.runs.launcher import start_run
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import LIVE_STATES, RunStatus
from nanochat_core.system.folder_names import next_free_tag
from studio.runs import stops

_lock = threading.Lock()


def active_run() -> Run | None:
    """A run that trains on this machine or is about to, whoever started it; the newest when there are several."""
    return next((run for run in Run.list() if is_active(run) and not run.is_remote()), None)


def is_active(run: Run) -> bool:
    """True while something works on the run: a process here, or a job that was sent off."""
    state = run.status().state
    return state in LIVE_STATES or (state == "queued" and (run.is_remote() or run.launcher() is not None))


def start(config: FinetuneConfig, nproc: int = 1, devices: str = "") -> Run:
    """Start a run on `devices` (numbers of GPUs, "" for all). ValueError when another one is under way."""
    with _lock:
        _refuse_second(config.output_tag)
        with _visible(devices):
            run = start_run(config, nproc)
    stops.forget(run.tag)
    return run


def resume(tag: str, nproc: int | None = None, devices: str = "") -> Run:
    """Go on with a run that is over but not finished: on as many processes as before, or in a job as before."""
    run = Run.open(tag)
    if run.is_remote():
        resume_remote_run(tag)
        stops.forget(tag)
        return run
    with _lock:
        _refuse_second(tag)
        with _visible(devices):
            run = start_run(run.settings(), nproc or int(run.read_launch().get("nproc") or 1), resume=True)
    stops.forget(tag)
    return run


def _refuse_second(tag: str) -> None:
    other = active_run()
    if other is not None and other.tag != tag:
        raise ValueError(
            f"Run '{other.tag}' is training on this machine. Queue this run to start it afterwards, or stop that one."
        )


@contextlib.contextmanager
def _visible(devices: str) -> Iterator[None]:
    """Within it, a started run sees only these GPUs: the launcher hands our environment on."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    try:
        yield
    finally:
        if devices:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


@dataclass(frozen=True)
class Change:
    """What to change before a failed run is tried again."""

    settings: dict[str, Any]
    one_process: bool = False

    @property
    def label(self) -> str:
        named = ", ".join(f"{name} {value:g}" for name, value in self.settings.items())
        return f"Retry with {named or 'one process'}"


def change_for(status: RunStatus, config: FinetuneConfig) -> Change | None:
    """The change that the remedy of a failed run names; None when it names no setting."""
    remedy = status.remedy or ""
    if "device_batch_size" in remedy:
        if config.device_batch_size > 1:
            return Change({"device_batch_size": config.device_batch_size // 2})
        return Change({"max_seq_len": config.max_seq_len // 2}) if config.max_seq_len >= 64 else None
    if "init_lr_frac" in remedy:
        return Change({"init_lr_frac": config.init_lr_frac / 2})
    return Change({}, one_process=True) if "nproc" in remedy else None


def retry(tag: str) -> Run:
    """Start a failed run again from its beginning, with the change that its remedy names, under a free name."""
    run = Run.open(tag)
    config, status = run.settings(), run.status()
    change = change_for(status, config) if status.state == "failed" else None
    if change is None:
        raise ValueError(f"Run '{tag}' names no setting to change. Start a new run with other settings.")
    config = dataclasses.replace(
        config, **change.settings, output_tag=next_free_tag(finetuned_dir(), tag), resume=False
    )
    launch = run.read_launch()
    return start(config, 1 if change.one_process else int(launch.get("nproc") or 1))
