"""`runs`: list, show, stop or resume training runs."""

from dataclasses import dataclass, replace
from typing import Annotated

import tyro

from nanochat_core.cli.terminal import PROGRAM, parse, say, tell
from nanochat_core.runs.launcher import start_run
from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import with_files_as_they_were
from nanochat_core.runs.stopping import SAVE_SECONDS, wait_while_alive


@dataclass(frozen=True)
class RunsCommand:
    """List all training runs, or show, stop or resume one."""

    action: Annotated[str, tyro.conf.Positional] = "list"
    """list, show, stop or resume."""
    tag: Annotated[str | None, tyro.conf.Positional] = None
    """Name of the run."""
    nproc: int | None = None
    """resume: number of processes; without it as many as before."""
    memory: str | None = None
    """resume: another memory mode, such as layerwise; the result stays the same."""


def run(arguments: list[str]) -> int:
    """List the runs, or act on one. Returns the exit status."""
    options: RunsCommand = parse(RunsCommand, arguments, "runs")
    if options.action == "list":
        known = Run.list()
        for one in known:
            say(_run_line(one))
        if not known:
            tell(f"There is no run yet: `{PROGRAM} finetune --data_path FILE` makes one.")
        return 0
    actions = {"show": _show_run, "stop": _stop_run, "resume": lambda run: _resume_run(run, options)}
    if options.action not in actions:
        raise ValueError(f"There is no action '{options.action}' for runs. Use list, show, stop or resume.")
    if options.tag is None:
        raise ValueError(f"runs {options.action} needs the name of a run: `runs list` shows them.")
    return actions[options.action](Run.open(options.tag))


def _run_line(run: Run) -> str:
    status = run.status()
    loss = f"best validation loss {status.best_val_loss:.4f}" if status.best_val_loss is not None else ""
    return f"{run.tag:<32} {status.state:<12} step {status.step}/{status.steps:<8} {loss}"


def _show_run(run: Run) -> int:
    status = run.status()
    say(_run_line(run))
    told = {"problem": status.error, "remedy": status.remedy, "warning": status.warning, "folder": run.path}
    has_failed = status.state == "failed" and status.error is not None
    if has_failed:  # its log ends with what each process said of it, and nothing that the problem does not say better
        told["log"] = run.log_file
    for label, text in told.items():
        if text:
            say(f"{label}: {text}")
    for name, value in run.record().get("settings", {}).items():
        say(f"  {name} = {value}")
    if not has_failed:
        say(run.log_tail(10))
    return 0


def _stop_run(run: Run) -> int:
    if run.status().is_over:
        say(f"Run '{run.tag}' is not running ({run.status().state}).")
        return 0
    minutes = f"{SAVE_SECONDS / 60:g} minutes"
    say(f"Asked run '{run.tag}' to save and stop (ended by force after {minutes} without a sign of life)", flush=True)
    if not run.read_launch().get("detached"):  # it trains in somebody's terminal or notebook: that is not ours to end
        run.stop()
        wait_while_alive(run.path, lambda: run.status().is_over)
        state = run.status().state
        say(f"Run '{run.tag}' is {state}.")
        return 0 if state in ("stopped", "finished") else 1
    report = run.stop(wait=SAVE_SECONDS, kill=True)
    say(f"Run '{run.tag}' is {report.state}; {len(report.alive) or 'none'} of its processes left.")
    return 0 if not report.alive else 1


def _resume_run(run: Run, options: RunsCommand) -> int:
    if run.is_remote():
        if options.nproc is not None or options.memory is not None:
            raise ValueError(f"Run '{run.tag}' trains on a rented machine as it began: leave --nproc and --memory out.")
        from nanochat_core.cli.remote import run as remote  # the hub's client takes half a second to load

        return remote(["resume", run.tag])
    processes = options.nproc if options.nproc is not None else int(run.read_launch().get("nproc", 1))
    settings = run.settings()
    if options.memory is not None:
        settings = replace(settings, memory=options.memory)
    with_files_as_they_were(run, settings, tell)  # here it is read; the training says it in a log
    start_run(settings, nproc=processes, resume=True)
    say(f"Run '{run.tag}' is resumed in the background. Watch it: python -m nanochat_core runs show {run.quoted}")
    return 0
