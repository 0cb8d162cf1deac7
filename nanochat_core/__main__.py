"""The command line: reads arguments, calls the package, prints. A person's mistake is one sentence and status 2."""

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import tyro

from nanochat_core import paths
from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.presets import describe_preset, preset_of
from nanochat_core.runs.run import Run
from nanochat_core.runs.stopping import SAVE_SECONDS, wait_while_alive
from nanochat_core.system.spawn import share_cores

# What needs torch is imported where it is used: `runs list` must not wait two seconds for it.


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 for a rejected file or a failed run, 2 for a person's mistake."""
    share_cores(os.environ)
    arguments = sys.argv[1:] if arguments is None else arguments
    command = _command(arguments[0]) if arguments else None
    if command is None:
        wants_help = bool(arguments) and arguments[0] in ("-h", "--help", "help")
        print(_usage(), file=sys.stdout if wants_help else sys.stderr)
        if arguments and not wants_help:
            print(f"There is no command '{arguments[0]}'. Choose one of the above.", file=sys.stderr)
        return 0 if wants_help else 2
    try:
        return command(arguments[1:])
    except ValueError as error:
        if os.environ.get("RANK", "0") == "0":  # under torchrun every rank has the same to say
            print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        print(f"Error: {error.filename}: {error.strerror}. Check the path and its permissions.", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _usage() -> str:
    lines = "".join(f"  {name:<10} {words}\n" for name, (words, _) in COMMANDS.items())
    return f"usage: python -m nanochat_core COMMAND [--help]\n\n{lines}"


def _command(name: str) -> Callable[[list[str]], int] | None:
    _, command = COMMANDS.get(name, ("", None))
    return importlib.import_module(f"nanochat_core.{command}").run if isinstance(command, str) else command


def _parse(target: Callable, arguments: list[str], command: str):
    return tyro.cli(target, args=arguments, prog=f"python -m nanochat_core {command}")


def _finetune(arguments: list[str]) -> int:
    nproc, arguments = _take_nproc(arguments)
    preset = preset_of(_base_name(arguments))
    config: FinetuneConfig = _parse(functools.partial(FinetuneConfig, **preset), arguments, "finetune")
    if preset and os.environ.get("RANK", "0") == "0":
        print(describe_preset(preset, config), flush=True)
    if nproc is not None:
        return _finetune_detached(config, nproc)
    from nanochat_core.training.finetune import finetune
    from nanochat_core.training.setup import Diverged

    try:
        finetune(config)
    except Diverged:
        return 1  # said by the training itself
    return 0


def _finetune_detached(config: FinetuneConfig, nproc: int) -> int:
    """Train in processes of their own, one a device, and show their log until they are done."""
    from nanochat_core.cli.follow import follow
    from nanochat_core.runs.launcher import start_run

    log = Run.open(config.output_tag).log_file if config.resume else None
    position = log.stat().st_size if log and log.is_file() else 0
    status = follow(start_run(config, nproc, resume=config.resume), position)
    if status.state == "failed" and status.is_mistake:
        raise ValueError(status.error)
    return 0 if status.state in ("finished", "stopped") else 1


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


def _base_name(arguments: list[str]) -> str:
    """The base model named among the arguments: what it is decides the other settings' defaults."""
    named = {}
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if name in ("model_tag", "from_finetuned") and (equals or position + 1 < len(arguments)):
            named[name] = value if equals else arguments[position + 1]
    return FinetuneConfig(data_path="-", **{name: value for name, value in named.items() if value != "None"}).base_name


@dataclass(frozen=True)
class CheckCommand:
    """Look for faults in a file of conversations. Exits with 0, or with 1 when the file is rejected."""

    file: tyro.conf.Positional[str]
    """The JSONL file."""
    json: bool = False
    """Print the report as JSON."""
    fix: str | None = None
    """Write a repaired copy to this file, and say what was done."""
    model: str | None = None
    """NAME of the model whose tokenizer counts the tokens; without it d32's, or the starter's."""
    max_seq_len: int = 2048
    """Longest conversation in tokens."""


def _check(arguments: list[str]) -> int:
    from nanochat_core.data.conversations import check
    from nanochat_core.data.repair.file import fix_file
    from nanochat_core.tokenizer.tokenizer import Tokenizer

    options: CheckCommand = _parse(CheckCommand, arguments, "check")
    if options.fix is not None:
        print(fix_file(options.file, options.fix).summary(), file=sys.stderr if options.json else sys.stdout)
    path = options.file if options.fix is None else options.fix
    tokenizer = Tokenizer.from_directory(paths.find_model(options.model).tokenizer_dir) if options.model else None
    report = check(path, tokenizer, options.max_seq_len)
    print(json.dumps(report.to_dict(), ensure_ascii=False) if options.json else report.summary())
    if options.json:
        print("".join(f"{note}\n" for note in report.notes), end="", file=sys.stderr)
    return 1 if report.verdict == "reject" else 0


@dataclass(frozen=True)
class ChatCommand:
    """Talk to a model. An empty line or Ctrl-D ends it."""

    model: str | None = None
    """NAME of the model: starter, pretrained/d32, finetuned/<run>, or a folder; without it d32, or the starter."""
    prompt: Annotated[str | None, tyro.conf.arg(aliases=["-p"])] = None
    """One question: answer it and end."""
    system: str | None = None
    """System prompt."""
    step: int | None = None
    """Checkpoint step; without it the newest."""
    device_type: str = "auto"
    """cuda, mps, cpu or auto."""
    dtype: str | None = None
    """float32, bfloat16 or int8 (on a CPU: the least memory, and the fastest); without it what suits best."""
    temperature: float = 0.7
    """0 always takes the likeliest token."""
    top_k: int = 50
    """Choose among this many likeliest tokens; 0 among all."""
    max_tokens: int = 256
    """Longest reply in tokens."""
    seed: int = 1
    """Seed of the choices."""


def _chat(arguments: list[str]) -> int:
    from nanochat_core.cli.chat import chat

    options: ChatCommand = _parse(ChatCommand, arguments, "chat")
    chat(**vars(options))
    return 0


@dataclass(frozen=True)
class ModelsCommand:
    """List the models that can be loaded by name."""


def _models(arguments: list[str]) -> int:
    _parse(ModelsCommand, arguments, "models")
    for model in paths.list_models():
        megabytes = model.weights.stat().st_size / 1e6
        print(f"{model.name:<32} step {model.step:<8} {megabytes:>10,.1f} MB  {model.folder}")
    if not paths.steps(paths.pretrained_dir() / "chatsft_checkpoints" / "d32"):
        print("pretrained/d32 is not here yet: `make download` fetches it (7.3 GB).")
    return 0


@dataclass(frozen=True)
class RunsCommand:
    """List all training runs, or show, stop or resume one."""

    action: Annotated[str, tyro.conf.Positional] = "list"
    """list, show, stop or resume."""
    tag: Annotated[str | None, tyro.conf.Positional] = None
    """Name of the run."""
    nproc: int | None = None
    """resume: number of processes; without it as many as before."""


def _runs(arguments: list[str]) -> int:
    options: RunsCommand = _parse(RunsCommand, arguments, "runs")
    if options.action == "list":
        for run in Run.list():
            print(_run_line(run))
        return 0
    actions = {"show": _show_run, "stop": _stop_run, "resume": lambda run: _resume_run(run, options.nproc)}
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
    print(_run_line(run))
    for label, text in (("problem", status.error), ("remedy", status.remedy), ("folder", run.path)):
        if text:
            print(f"{label}: {text}")
    for name, value in run.record().get("settings", {}).items():
        print(f"  {name} = {value}")
    print(run.log_tail(10))
    return 0


def _stop_run(run: Run) -> int:
    if run.status().is_over:
        print(f"Run '{run.tag}' is not running ({run.status().state}).")
        return 0
    minutes = f"{SAVE_SECONDS / 60:g} minutes"
    print(f"Asked run '{run.tag}' to save and stop (ended by force after {minutes} without a sign of life)", flush=True)
    if not run.read_launch().get("detached"):  # it trains in somebody's terminal or notebook: that is not ours to end
        run.stop()
        wait_while_alive(run.path, lambda: run.status().is_over)
        state = run.status().state
        print(f"Run '{run.tag}' is {state}.")
        return 0 if state in ("stopped", "finished") else 1
    report = run.stop(wait=SAVE_SECONDS, kill=True)
    print(f"Run '{run.tag}' is {report.state}; {len(report.alive) or 'none'} of its processes left.")
    return 0 if not report.alive else 1


def _resume_run(run: Run, nproc: int | None) -> int:
    if run.is_remote():
        from nanochat_core.cli.remote import run as remote

        return remote(["resume", run.tag])
    from nanochat_core.runs.launcher import start_run

    processes = nproc if nproc is not None else int(run.read_launch().get("nproc", 1))
    start_run(run.settings(), nproc=processes, resume=True)
    print(f"Run '{run.tag}' goes on in the background. Watch it: python -m nanochat_core runs show {run.tag}")
    return 0


# Those in modules of their own are named as text, and imported when they are called.
COMMANDS: dict[str, tuple[str, Callable[[list[str]], int] | str]] = {
    "finetune": ("train a model on your own conversations (--nproc N: in N processes, one for each GPU)", _finetune),
    "check": ("look for faults in a file of conversations, and repair them", _check),
    "chat": ("talk to a model", _chat),
    "eval": ("ask a model questions with known answers, and take its loss on conversations", "cli.eval"),
    "models": ("list the models there are", _models),
    "runs": ("list, show, stop or resume training runs", _runs),
    "download": ("fetch a nanochat model from the Hugging Face Hub", "cli.download"),
    "import-dataset": ("conversations from a dataset on the Hugging Face Hub, checked", "cli.import_dataset"),
    "export": ("write a model as a folder for transformers and others, or for nanochat", "cli.export"),
    "publish": ("put a model on the Hugging Face Hub, private unless you say otherwise", "cli.publish"),
    "remote": ("train on a rented machine of the Hugging Face Hub, and follow such a run", "cli.remote"),
    "serve": ("answer other programs with a model, as OpenAI's API does", "cli.serve"),
}

if __name__ == "__main__":
    status = main()
    if status and os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stderr.flush()
        os._exit(status)  # leaving in the usual way would wait for the other ranks, who wait for this one
    sys.exit(status)
