"""The command `remote`: train on a rented machine of the Hugging Face Hub, follow such a run, and resume it."""

import functools
from dataclasses import dataclass
from typing import Annotated

import tyro

from nanochat_core.cli.terminal import PROGRAM, parse, say
from nanochat_core.config import FinetuneConfig
from nanochat_core.remote import jobs
from nanochat_core.remote.start import resume_remote_run, start_remote_run
from nanochat_core.remote.state import STOP_SECONDS
from nanochat_core.remote.sync import WATCHER_LOG, sync_remote_run
from nanochat_core.runs.job_watcher import start_watcher
from nanochat_core.runs.nodes import Nodes
from nanochat_core.runs.presets import describe_preset, preset_of
from nanochat_core.runs.run import Run

_PROG = f"{PROGRAM} remote"
_ACTIONS = "hardware, start, sync, stop or resume"


@dataclass(frozen=True)
class StartOptions:
    """Where to train. The flags of finetune say what."""

    flavor: str
    """The machine: `remote hardware` lists them with their prices."""
    timeout: str = "2h"
    """Time limit, such as 90m or 2h; shortly before it the run saves and stops."""
    namespace: str | None = None
    """Who pays: a user or an organisation; without it you."""
    image: str = jobs.IMAGE
    """Docker image with Python 3.11 or newer, torch and CUDA."""
    nnodes: int = 1
    """So many of these machines, which train together."""


@dataclass(frozen=True)
class ResumeOptions:
    """Resume a remote run in a new job. What is not given stays as it was."""

    tag: Annotated[str, tyro.conf.Positional]
    """Name of the run."""
    flavor: str | None = None
    """The machine."""
    timeout: str | None = None
    """Time limit, such as 90m or 2h."""
    image: str | None = None
    """Docker image."""


@dataclass(frozen=True)
class TagOption:
    """Name a remote run."""

    tag: Annotated[str, tyro.conf.Positional]
    """Name of the run."""


def run(arguments: list[str]) -> int:
    """One of the actions. Returns the exit status."""
    actions = {"hardware": _hardware, "start": _start, "sync": _sync, "stop": _stop, "resume": _resume}
    action = arguments[0] if arguments else ""
    if action in ("-h", "--help"):
        say(f"usage: {_PROG} ACTION [--help]\n\nActions: {_ACTIONS}.")
        return 0
    if action not in actions:
        raise ValueError(f"There is no action '{action}' for remote. Use {_ACTIONS}.")
    return actions[action](arguments[1:])


def _hardware(arguments: list[str]) -> int:
    for machine in jobs.hardware():
        say(machine)
    return 0


def _start(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        say(
            "Where: --flavor, --timeout, --namespace, --image, --nnodes. What: every flag of `finetune` but --resume.\n"
        )
        tyro.cli(StartOptions, prog=f"{_PROG} start", args=["--help"])
    where, rest = tyro.cli(StartOptions, prog=f"{_PROG} start", args=arguments, return_unknown_args=True)
    config = _settings(rest)
    say(f"Sending the run '{config.output_tag}' to {jobs.find_hardware(where.flavor)} ...", flush=True)
    nodes = Nodes(where.nnodes, endpoint="-").count
    started = start_remote_run(config, where.flavor, where.namespace, where.timeout, image=where.image, nodes=nodes)
    return _say_where(started)


def _settings(arguments: list[str]) -> FinetuneConfig:
    """The flags of `finetune`; what is not given is what suits the base model."""
    prog = f"{_PROG} start"
    base = tyro.cli(FinetuneConfig, prog=prog, args=arguments)
    if base.resume:
        raise ValueError(f"To resume a remote run: `{_PROG} resume {base.output_tag}`.")
    preset = preset_of(base.base_name)
    config = tyro.cli(functools.partial(FinetuneConfig, **preset), prog=prog, args=arguments)
    if preset:
        say(describe_preset(preset, config))
    return config


def _resume(arguments: list[str]) -> int:
    options = parse(ResumeOptions, arguments, "remote resume")
    return _say_where(resume_remote_run(options.tag, options.flavor, options.timeout, image=options.image))


def _say_where(started: Run) -> int:
    launch = started.read_launch()
    say(f"Run '{started.tag}' is a job now: {launch['url']}")
    say(f"Its state goes through the private repository {launch['repo']}; this machine may be switched off.")
    say(f"Look: python -m nanochat_core remote sync {started.quoted}")
    return 0


def _sync(arguments: list[str]) -> int:
    started = Run.open(parse(TagOption, arguments, "remote sync").tag)
    status = sync_remote_run(started)
    loss = f", best validation loss {status.best_val_loss:.4f}" if status.best_val_loss is not None else ""
    stage = status.stage or "not seen yet"
    say(f"{started.tag}: {status.state}, step {status.step} of {status.steps}{loss} (job: {stage})")
    for text in (status.trouble, status.error, status.remedy):
        if text:
            say(text)
    if not status.is_over:
        start_watcher(started.tag, started.path / WATCHER_LOG)
    return 0


def _stop(arguments: list[str]) -> int:
    started = Run.open(parse(TagOption, arguments, "remote stop").tag)
    if not started.is_remote():
        raise ValueError(f"Run '{started.tag}' is trained here: `python -m nanochat_core runs stop {started.quoted}`.")
    started.stop()
    minutes = int(STOP_SECONDS // 60)
    say(f"The job is asked to save and stop; after {minutes} minutes of silence it is cancelled.")
    return 0
