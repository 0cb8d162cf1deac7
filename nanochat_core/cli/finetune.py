"""`finetune`: train a model on a person's own conversations, in this process or in processes of their own."""

import functools
import os
import shlex
from pathlib import Path
from typing import Any

from nanochat_core.cli.follow import follow
from nanochat_core.cli.plan import take_option
from nanochat_core.cli.terminal import parse, say, tell
from nanochat_core.config import ONLY_WITH, FinetuneConfig
from nanochat_core.runs.cluster import skypilot_task, slurm_script
from nanochat_core.runs.launcher import join_run, start_run
from nanochat_core.runs.nodes import Nodes
from nanochat_core.runs.presets import describe_preset, preset_of
from nanochat_core.runs.run import Run
from nanochat_core.system.files import check_new, write_atomically

SCRIPTS = {"slurm": (slurm_script, "sbatch"), "skypilot": (skypilot_task, "sky launch")}
"""What writes a script for a scheduler, and the command that takes it there."""


def run(arguments: list[str]) -> int:
    """Train a run. Returns the exit status."""
    nproc, arguments = _take_nproc(arguments)
    scripts = {}
    for name in SCRIPTS:
        scripts[name], arguments = take_option(f"--{name}", arguments, "FILE")
    numbers, endpoint, arguments = _take_nodes(arguments)
    if "--plan" in arguments:
        from nanochat_core.cli.plan import plan

        return plan(arguments, base_name(arguments), nproc or 1)
    preset = preset_of(base_name(arguments))
    config: FinetuneConfig = parse(functools.partial(FinetuneConfig, **preset), arguments, "finetune")
    if os.environ.get("RANK", "0") == "0":
        if preset:
            say(describe_preset(preset, config), flush=True)
        for sentence in without_effect(arguments, config):
            tell(sentence)
    if any(file is not None for file in scripts.values()):
        return _write_scripts(config, scripts, nproc or 1, numbers)
    nodes = Nodes(numbers["nnodes"], numbers["node_rank"], endpoint, numbers["max_restarts"])
    if nodes.rank > 0:
        join_run(config, nproc or 1, nodes)
    if nproc is not None or nodes != Nodes(1):
        return _detached(config, nproc or 1, nodes)
    from nanochat_core.training.finetune import finetune, was_told

    try:
        finetune(config)
    except Exception as error:
        if was_told(error):
            return 1
        raise
    return 0


def _detached(config: FinetuneConfig, nproc: int, nodes: Nodes) -> int:
    """Train in processes of their own, one a device, and show their log until they are done."""
    log = Run.open(config.output_tag).log_file if config.resume else None
    position = log.stat().st_size if log and log.is_file() else 0
    status = follow(start_run(config, nproc, resume=config.resume, nodes=nodes), position)
    if status.state in ("finished", "stopped"):
        return 0
    if status.is_mistake:
        raise ValueError(status.error)
    # The log above ends with what the other processes said when they lost this one.
    tell(" ".join(text for text in (f"Error: {status.error}", status.remedy) if text))
    return 1


def _write_scripts(config: FinetuneConfig, scripts: dict[str, str | None], nproc: int, numbers: dict[str, int]) -> int:
    """Write what a cluster's scheduler takes, and say how it is submitted. Nothing is started."""
    wanted = {name: Path(file) for name, file in scripts.items() if file is not None}
    for path in wanted.values():
        check_new(path)
    for name, path in wanted.items():
        make, submit = SCRIPTS[name]
        text = make(config, nproc, Nodes(numbers["nnodes"], endpoint="-").count, numbers["max_restarts"])
        write_atomically(path, text.encode("utf-8"))
        path.chmod(0o755 if path.suffix == ".sh" else 0o644)
        command = f"{submit} {shlex.quote(str(path))}"
        say(f"{path} is written: look it through, then submit it with `{command}`.")
    return 0


def _take_nodes(arguments: list[str]) -> tuple[dict[str, int], str, list[str]]:
    """Split off what says on how many machines a run trains, in torchrun's words: (numbers, endpoint, the rest)."""
    numbers = {"nnodes": 1, "node_rank": 0, "max_restarts": 0}
    for name in numbers:
        value, arguments = take_option(f"--{name}", arguments, "1")
        if value is not None and not value.isdecimal():
            raise ValueError(f"--{name} is '{value}': give a number.")
        numbers[name] = int(value) if value is not None else numbers[name]
    endpoint, arguments = take_option("--rdzv_endpoint", arguments, "HOST:29400")
    return numbers, endpoint or "", arguments


def _take_nproc(arguments: list[str]) -> tuple[int | None, list[str]]:
    """Split `--nproc N` off: it says how to start a run, and is no setting of the run."""
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag != "--nproc":
            continue
        width = 1 if equals else 2
        value = value if equals else "".join(arguments[position + 1 : position + 2])
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"--nproc is '{value}': give the number of processes, one for each GPU.")
        return int(value), arguments[:position] + arguments[position + width :]
    return None, arguments


def without_effect(arguments: list[str], config: FinetuneConfig) -> list[str]:
    """Sentences about settings that a person has given and that change nothing, for want of another one."""
    other = "full" if config.method == "lora" else "lora"
    given = [name for name in _given(arguments) if getattr(config, name, None) != getattr(FinetuneConfig, name, None)]
    unused = [name for name in ONLY_WITH[other] if name in given]
    found = [f"{', '.join(unused)}: without effect, the method is {config.method}. Give --method {other} to use it."]
    if "replay_path" in given and not config.replay_ratio:
        found.append("replay_path: without effect, replay_ratio is 0. Give --replay_ratio 1 to use it.")
    return found if unused else found[1:]


def _given(arguments: list[str]) -> dict[str, str]:
    """The settings named among the arguments, with their values."""
    named = {}
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag.startswith("--") and (equals or position + 1 < len(arguments)):
            named[flag.removeprefix("--").replace("-", "_")] = value if equals else arguments[position + 1]
    return named


def base_name(arguments: list[str]) -> str:
    """The base model named among the arguments: what it is decides the other settings' defaults."""
    given = _given(arguments)
    named: dict[str, Any] = {name: given[name] for name in ("model_tag", "from_finetuned") if name in given}
    return FinetuneConfig(data_path="-", **{name: value for name, value in named.items() if value != "None"}).base_name
