"""`doctor`: what this machine can do, which models fit it and how, what is missing and the command that brings it."""

from dataclasses import dataclass
from typing import Any

from nanochat_core.cli.machine import Machine, examine
from nanochat_core.cli.terminal import parse, say, say_json
from nanochat_core.memory.tables import as_text, gib, needed_here
from nanochat_core.system.words import size


@dataclass(frozen=True)
class DoctorCommand:
    """What this machine can do: hardware, torch, models and modes that fit, tokens per second, what is missing."""

    json: bool = False
    """Print one JSON object instead."""


def run(arguments: list[str]) -> int:
    """Examine the machine and say what was found. Returns the exit status."""
    options = parse(DoctorCommand, arguments, "doctor")
    machine = examine()
    if options.json:
        say_json(machine.to_json(), indent=2)
        return 0
    for name, value in _lines(machine):
        say(f"{name:<14}{value}")
    say()
    say(as_text([["model", "memory mode", "needs", "training, tokens/s", "reply, tokens/s"], *_models(machine)]))
    say()
    if machine.error:
        say(f"Not measured: {machine.error}")
    for one in machine.missing:
        say(f"Missing: {one.what}\n    {one.fix}")
    if not machine.missing:
        say("Nothing is missing.")
    return 0


def _lines(machine: Machine) -> list[tuple[str, str]]:
    hardware, torch = machine.hardware, machine.torch
    units = ", ".join(hardware.processor.vectors) or "none that is used"
    gpus = [f"{gpu.name}, {gib(gpu.memory)}, {_bf16(gpu.has_bf16)}" for gpu in hardware.gpus]
    return [
        ("processor", f"{hardware.processor.name}, {hardware.cores} cores"),
        ("vector units", units),
        ("memory", f"{gib(hardware.memory)}, {gib(machine.memory_free)} of it free"),
        ("disk", f"{size(machine.disk_free)} free for models and runs"),
        ("C compiler", machine.compiler or "none"),
        ("compiled code", "yes" if machine.compiled else "no: replies, and reading data, are slower"),
        ("GPU", "; ".join(gpus) or ("Apple's" if hardware.apple else hardware.doubt or "none")),
        ("Python", machine.python),
        ("torch", _build(torch) if torch else machine.torch_version or "not installed"),
        ("computes on", f"{torch['device']} in {'bfloat16' if torch['bf16'] else 'float32'}" if torch else "unknown"),
    ]


def _build(torch: dict[str, Any]) -> str:
    with_cuda = f"built for CUDA {torch['torch_cuda']}" if torch["torch_cuda"] else "built without CUDA"
    return f"{torch['torch']}, {with_cuda}, uses {torch['torch_cpu']} and {torch['threads']} threads on the processor"


def _bf16(has_it: bool | None) -> str:
    return {True: "bfloat16", False: "no bfloat16: computes in float32", None: "bfloat16 unknown"}[has_it]


def _models(machine: Machine) -> list[list[str]]:
    rows = []
    for model in machine.models:
        mode = model.plan.mode(model.plan.chosen) if model.plan.chosen else None
        needed = needed_here(mode, model.plan.device) if mode else "more than there is"
        rates = [_rate(rate) for rate in (model.train_rate, model.chat_rate)]
        rows.append([model.name, model.plan.chosen or "none fits", needed, *rates])
    return rows


def _rate(rate: float | None) -> str:
    if rate is None:
        return ""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
