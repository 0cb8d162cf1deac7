"""Start a run in processes of its own, which outlive what started them: an app, a terminal, a notebook."""

import os
import sys

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import find_model
from nanochat_core.runs.claiming import claimed
from nanochat_core.runs.presets import original_base
from nanochat_core.runs.record import run_record
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import NOTHING_WRONG
from nanochat_core.system import processes
from nanochat_core.system.files import now
from nanochat_core.system.spawn import collect, spawn

_WORKER = "nanochat_core.training.worker"


def start_run(config: FinetuneConfig, nproc: int = 1, resume: bool = False, worker: str = _WORKER) -> Run:
    """Start training in `nproc` processes and return at once; `Run.status` tells how it goes.

    resume: resume the stopped, failed or interrupted run of config.output_tag with the settings that it was made
    with. worker: the module that trains a run when it is called with its tag.
    Raises ValueError when the run exists (or does not, for resume), already runs, or its base model is missing.
    """
    if nproc < 1:
        raise ValueError(f"nproc is {nproc}: a run needs at least one process.")
    if resume or config.resume:
        run = Run.open(config.output_tag)
        check_resumable(run)
    else:
        find_model(config.base_name, config.model_step, config.base_source)
        run = create_run(config)
    with claimed(run):
        run.clear_stop()
        run.launch_file.unlink(
            missing_ok=True
        )  # the process of an earlier launch is gone and must not be shown as ours
        run.write_status(state="queued", eta_seconds=None, **NOTHING_WRONG)
        command = [sys.executable, "-u", "-m", "nanochat_core.runs.supervisor", run.tag, f"--nproc={nproc}"]
        command += [f"--worker={worker}"] if worker != _WORKER else []
        with open(run.log_file, "ab") as log:
            process = spawn(command, _variables(run, nproc), folder=run.path, stdout=log)
        who = processes.identity(process.pid)
        run.write_launch(**who.to_dict(), command=command, nproc=nproc, detached=True, started=now())
    collect(process)
    return run


def create_run(config: FinetuneConfig) -> Run:
    """Make the run's directory with its record.

    Which model it descends from is noted, since its ancestors may be deleted. ValueError when the tag is taken or the
    data cannot be read.
    """
    record = {**run_record(config.with_absolute_paths()), "original_base": original_base(config.base_name)}
    return Run.create(config.output_tag, record)


def check_resumable(run: Run) -> None:
    """ValueError when the run has finished, its settings cannot be read, or its state lies on the hub."""
    if run.is_remote():
        raise ValueError(
            f"Run '{run.tag}' is trained by jobs on the hub, and its state is there. "
            f"Resume it there: `python -m nanochat_core remote resume {run.tag}`."
        )
    run.settings()  # a config.json that was edited into something else is refused here, not in a log
    if run.status().state == "finished":
        raise ValueError(
            f"Run '{run.tag}' has finished, there is nothing left to resume. To train its model further, start a new "
            f"run from it: --from_finetuned {run.tag} --output_tag NAME."
        )


def _variables(run: Run, nproc: int) -> dict[str, str]:
    """What the processes of a run need in their environment, and by which they are found."""
    defaults: dict[str, str] = {}
    if sys.platform == "linux":  # all ranks are here: no look-up of the host's name, nothing offered to the network
        defaults["GLOO_SOCKET_IFNAME"] = "lo"
    if nproc > 1:  # each would take every core
        defaults["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // nproc))
    missing = {name: value for name, value in defaults.items() if name not in os.environ}
    return {**missing, processes.RUN_VARIABLE: str(run.path), "PYTHONUNBUFFERED": "1"}
