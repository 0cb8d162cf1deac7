"""Start a run in processes of its own, which outlive what started them: an app, a terminal, a notebook."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import ModelFiles, find_file, find_model, finetuned_dir, whole_model
from nanochat_core.runs.base import found_step
from nanochat_core.runs.claiming import claimed
from nanochat_core.runs.nodes import Nodes, host_name
from nanochat_core.runs.presets import original_base, preset_of
from nanochat_core.runs.record import run_record
from nanochat_core.runs.run import Run
from nanochat_core.runs.status import NOTHING_WRONG
from nanochat_core.system import processes
from nanochat_core.system.disk import DiskFull, need_room
from nanochat_core.system.files import now, write_json
from nanochat_core.system.hardware import find_hardware
from nanochat_core.system.spawn import child_environment, collect, spawn

_ALONE = Nodes(1)
_WORKER = "nanochat_core.training.worker"
_DEVICES = "CUDA_VISIBLE_DEVICES"
CHANGEABLE = ("resume", "output_tag", "memory")
"""Settings with which a run may resume that was made with others: they change nothing about its result."""


def start_run(
    config: FinetuneConfig,
    nproc: int = 1,
    resume: bool = False,
    worker: str = _WORKER,
    nodes: Nodes = _ALONE,
    devices: str = "",
) -> Run:
    """Start training in `nproc` processes and return at once; `Run.status` tells how it goes.

    resume: resume the stopped, failed or interrupted run of config.output_tag with the settings that it was made
    with. worker: the module that trains a run when it is called with its tag. nodes: that this is the first of several
    machines, which then wait for the others (`join_run`), or how often the run may start again by itself. devices: the
    numbers of the GPUs to train on, as CUDA_VISIBLE_DEVICES has them; without it all, or those that a resumed run had.
    Raises ValueError when the run exists (or does not, for resume), already runs, or its base model is missing.
    """
    _check_count(nproc)
    if resume or config.resume:
        run = Run.open(config.output_tag)
        check_resumable(run, config)
    else:
        find_model(config.base_name, config.model_step, config.base_source)
        run = create_run(config)
    with claimed(run):
        if resume or config.resume:
            adopt_memory(run, config)
        run.clear_stop()
        devices = devices or (devices_before(run) if resume or config.resume else "") or os.environ.get(_DEVICES, "")
        run.launch_file.unlink(
            missing_ok=True
        )  # the process of an earlier launch is gone and must not be shown as ours
        run.write_status(state="queued", eta_seconds=None, **NOTHING_WRONG, **_facts(nodes))
        command = [sys.executable, "-u", "-m", "nanochat_core.runs.supervisor", run.tag, f"--nproc={nproc}"]
        command += [f"--{name}={value}" for name, value in nodes.flags().items()]
        command += [f"--worker={worker}"] if worker != _WORKER else []
        with open(run.log_file, "ab") as log:
            variables = {**_variables(run, nproc, nodes), **nodes.variables(config)}
            variables |= {_DEVICES: devices} if devices else {}
            process = spawn(command, variables, folder=run.path, stdout=log)
        who = processes.identity(process.pid)
        told = {"devices": devices} if devices else {}
        run.write_launch(**who.to_dict(), command=command, nproc=nproc, detached=True, started=now(), **told)
    collect(process)
    return run


_MOST_ANYWHERE = 8
"""Processes that any machine may have, though they share its cores: as many GPUs as most machines have, to try it."""


def _check_count(nproc: int) -> None:
    """ValueError for as many processes as would only fill the memory: each loads torch, before it knows its device."""
    if nproc < 1:
        raise ValueError(f"nproc is {nproc}: a run needs at least one process.")
    if nproc <= _MOST_ANYWHERE:
        return
    hardware = find_hardware()
    most = max(_MOST_ANYWHERE, len(hardware.gpus), hardware.cores)
    if nproc > most:
        raise ValueError(f"nproc is {nproc}: this machine has work for {most} processes at most, one for each device.")


def devices_before(run: Run) -> str:
    """The numbers of the GPUs that the run was started on, if we may still have them; "" for all that we may."""
    devices = str(run.read_launch().get("devices") or "")
    if not devices:
        return ""
    ours = os.environ.get(_DEVICES) or ",".join(str(gpu.index) for gpu in find_hardware().gpus)
    return devices if set(devices.split(",")) <= set(ours.split(",")) else ""


def join_run(config: FinetuneConfig, nproc: int, nodes: Nodes, worker: str = _WORKER) -> NoReturn:
    """Become the processes of a further machine of a run, until it is over; the program's exit status is theirs.

    The first machine makes the run and writes it. ValueError when the data or the base model is not here.
    """
    find_model(config.base_name, config.model_step, config.base_source)
    missing = [path for path in (config.data_path, config.replay_path) if path and not find_file(path).is_file()]
    if missing:
        raise ValueError(f"There is no file {missing[0]} on this machine. Copy the data to each of the machines.")
    run = Run(config.output_tag, finetuned_dir() / config.output_tag)
    command = [sys.executable, "-u", "-m", "nanochat_core.runs.supervisor", run.tag, f"--nproc={nproc}"]
    command += [f"--{name}={value}" for name, value in nodes.flags().items()]
    command += [f"--worker={worker}"] if worker != _WORKER else []
    variables = {**_variables(run, nproc, nodes), **nodes.variables(config)}
    os.execve(sys.executable, command, child_environment(variables))  # not a child: a signal reaches the one that acts


def _facts(nodes: Nodes) -> dict[str, Any]:
    """What the status of a new launch says of machines and restarts."""
    return {
        "restarts": -1 if nodes.max_restarts else None,  # the first start is none
        "nodes": None if nodes.is_alone else [host_name()],
        "nodes_wanted": None if nodes.is_alone else nodes.count,
    }


def create_run(config: FinetuneConfig) -> Run:
    """Make the run's directory with its record.

    Which model it descends from is noted, since its ancestors may be deleted. ValueError when the tag is taken, the
    data cannot be read, or the disk has no room for what the run will save.
    """
    with _said():
        _need_room(config)
        origin = {"base_step": found_step(config), "original_base": original_base(config.base_name)}
        return Run.create(config.output_tag, {**run_record(config.with_absolute_paths()), **origin})


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Within it, an error of the system is a ValueError: what, where, remedy."""
    try:
        yield
    except DiskFull as error:
        raise ValueError(f"{error} Free some space, then try again.") from error
    except OSError as error:
        where = error.filename or finetuned_dir()
        raise ValueError(
            f"{where} cannot be written ({error.strerror or error}). Check the folder and its permissions, or set "
            "NANOCHAT_STUDIO_HOME to a folder of your own."
        ) from error


def _need_room(config: FinetuneConfig) -> None:
    """ValueError when the disk has no room for a checkpoint and what it takes to resume from it."""
    try:
        base = find_model(config.base_name, config.model_step, config.base_source)
        needed = room_needed(config, base)
    except ValueError:
        return  # said by the one who loads it
    need_room(finetuned_dir() / config.output_tag, needed, f"Run '{config.output_tag}'")


def room_needed(config: FinetuneConfig, base: ModelFiles) -> int:
    """Bytes on the disk for the checkpoints of a run from `base`. ValueError when its weights are not there.

    Measured: a resume state is 1.2 times the weights, which are saved as the base's own file is. Two of each lie there
    while the second replaces the first. An adapter is 1% of them at the usual rank, its resume state twice that.
    """
    share = 0.06 * config.lora_rank / 16 if config.method == "lora" else 4.4
    return round(share * whole_model(base).weights.stat().st_size)


def check_resumable(run: Run, config: FinetuneConfig | None = None) -> None:
    """ValueError when the run has finished, its settings cannot be read, or its state lies on the hub.

    config: with which it is asked to resume; refused when it names settings that are not the run's own.
    """
    if run.is_remote():
        raise ValueError(
            f"Run '{run.tag}' is trained by jobs on the hub, and its state is there. "
            f"Resume it there: `python -m nanochat_core remote resume {run.quoted}`."
        )
    own = run.settings()  # a config.json that was edited into something else is refused here, not in a log
    if run.status().state == "finished":
        raise ValueError(
            f"Run '{run.tag}' has finished, there is nothing left to resume. To train its model further, start a new "
            f"run from it: --from_finetuned {run.quoted} --output_tag NAME."
        )
    if other := other_settings(config, own) if config is not None else []:
        raise ValueError(
            f"Run '{run.tag}' resumes with the settings that it was made with, and these differ: {'; '.join(other)}. "
            "Leave them out to resume, or start a new run under another output_tag."
        )


def adopt_memory(run: Run, config: FinetuneConfig) -> None:
    """Let a run that was claimed to resume do it in the memory mode that is asked for, if any is."""
    record = run.record()
    if config.memory not in (FinetuneConfig.memory, run.settings().memory):
        record["settings"]["memory"] = config.memory
        write_json(run.config_file, record)


def other_settings(wanted: FinetuneConfig, own: FinetuneConfig) -> list[str]:
    """What a resume asks for beyond defaults and is not so in the run, such as `matrix_lr is 0.01, not 0.02`."""
    preset = preset_of(wanted.base_name)
    found = []
    for item in fields(FinetuneConfig):
        mine, asked = getattr(own, item.name), getattr(wanted, item.name)
        if item.name in CHANGEABLE or asked in (mine, item.default, preset.get(item.name, mine)):
            continue
        if item.name.endswith("_path") and asked and mine and Path(asked).expanduser().absolute() == Path(mine):
            continue
        found.append(f"{item.name} is {mine}, not {asked}")
    return found


def _variables(run: Run, nproc: int, nodes: Nodes) -> dict[str, str]:
    """What the processes of a run need in their environment, and by which they are found."""
    defaults: dict[str, str] = {}
    # All ranks are here: no look-up of the host's name, nothing offered to the network.
    if sys.platform == "linux" and nodes.is_here:
        defaults["GLOO_SOCKET_IFNAME"] = "lo"
    if nproc > 1:  # each would take every core
        defaults["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // nproc))
    missing = {name: value for name, value in defaults.items() if name not in os.environ}
    return {**missing, processes.RUN_VARIABLE: str(run.path), "PYTHONUNBUFFERED": "1"}
