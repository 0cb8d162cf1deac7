"""`finetune --plan`: what a training would need in each memory mode, before there is a model, data or a GPU."""

import functools
from pathlib import Path

import numpy as np

from nanochat_core.cli.terminal import parse, say, say_json
from nanochat_core.config import FinetuneConfig
from nanochat_core.memory.plan import MemoryPlan, named_card, plan_memory, this_device, training_of
from nanochat_core.memory.shapes import shape_of
from nanochat_core.memory.tables import as_text, gib, plan_rows, verdict
from nanochat_core.paths import find_file, find_model
from nanochat_core.runs.presets import preset_of
from nanochat_core.system.hardware import find_hardware

_NO_DATA = "-"


def plan(arguments: list[str], base_name: str, world: int) -> int:
    """Print the plan of `finetune` with these arguments on each of `world` devices. Returns the exit status."""
    card, arguments = take_option("--card", [one for one in arguments if one != "--plan"], "24GB")
    as_json, arguments = "--json" in arguments, [one for one in arguments if one != "--json"]
    defaults = functools.partial(FinetuneConfig, **{"data_path": _NO_DATA, **preset_of(base_name)})
    config: FinetuneConfig = parse(defaults, arguments, "finetune")
    found, assumed = make_plan(config, card, world)
    if as_json:
        say_json({**found.to_json(), "assumed": assumed}, indent=2)
        return 0
    size = f" ({gib(found.device.card_bytes)})" if found.device.card_bytes else ""
    tokens = f"a step of {found.training.step_tokens:,} tokens"
    say(f"Memory for {config.base_name} on {found.device.name}{size}, {tokens}:\n")
    say(as_text(plan_rows(found)))
    say()
    say(verdict(found))
    for sentence in assumed:
        say(sentence)
    return 0


def make_plan(config: FinetuneConfig, card: str | None, world: int) -> tuple[MemoryPlan, list[str]]:
    """(the plan of `config`, what it takes for granted, in sentences). ValueError for a card or model unheard of."""
    known = shape_of(config)
    lengths = _lengths(config)
    assumed = [f"The model's shape is known by {known.source}."]
    if lengths is None:
        assumed.append(f"Without data, every conversation is taken to have {config.max_seq_len} tokens (max_seq_len).")
    else:
        assumed.append(f"The step is that of the {config.target_examples_per_step} longest conversations.")
    device = named_card(card) if card is not None else this_device(find_hardware(), config.device_type)
    assumed.append("The figures are counted; what the driver and the libraries take, and 5% of the card, are assumed.")
    return plan_memory(training_of(config, known.shape, world, lengths), device), assumed


def _lengths(config: FinetuneConfig) -> list[int] | None:
    """Tokens of every conversation that may be in a step; None without data, or without the model's tokenizer."""
    if config.data_path == _NO_DATA:
        return None
    from nanochat_core.data.training_data import load_training_data
    from nanochat_core.tokenizer.tokenizer import Tokenizer

    if not Path(find_file(config.data_path)).is_file():
        raise ValueError(
            f"There is no file {config.data_path}. Correct data_path, or leave it out to plan without data."
        )
    try:
        tokenizer_dir = find_model(config.base_name, config.model_step, config.base_source).tokenizer_dir
    except ValueError:
        return None
    data = load_training_data(config.with_absolute_paths(), Tokenizer.from_directory(tokenizer_dir))
    inputs = [data.train.inputs]
    if config.replay_ratio > 0:
        inputs.append(np.array([example.inputs for example in data.replay], np.int64))
    return np.concatenate(inputs).tolist()


def take_option(name: str, arguments: list[str], example: str) -> tuple[str | None, list[str]]:
    """Split `name VALUE` or `name=VALUE` off, whose value is no setting of a run.

    ValueError, with an example, where the value is missing or is the next option.
    """
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag != name:
            continue
        if not equals:
            value = "".join(arguments[position + 1 : position + 2])
        if not value or (not equals and value.startswith("--")):
            raise ValueError(f"{name} has no value: give one, such as {name} {example}.")
        return value, arguments[:position] + arguments[position + (1 if equals else 2) :]
    return None, arguments
