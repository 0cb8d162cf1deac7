"""A short measured training before the real one: time and memory of the real model on the real data; writes nothing."""

import time
from collections.abc import Callable

import numpy as np

from nanochat_core.compute.devices import all_memory, choose_device, peak_memory
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.data.training_data import load_training_data
from nanochat_core.training.needs import Needs
from nanochat_core.training.setup import Setup, base_files, set_up

STEPS = 4
ENOUGH_SECONDS = 10.0
"""No further step begins after so much measured time."""


def probe(config: FinetuneConfig, report: Callable[[float, str], None]) -> Needs:
    """Train some steps of `config` in memory, as the run itself would, and measure them.

    The first step takes the longest conversations: it warms up, and it needs the most memory. report(fraction, text)
    is called between the steps. ValueError as from the training itself.
    """
    report(0.0, "Reading the model and the data")
    ranks = Ranks(rank=0, world=1, device=choose_device(config.device_type))
    files = base_files(config)
    # The start itself looks for damage; to measure, a large file need not be read twice, and nothing is written.
    setup = set_up(config, ranks, files, lambda tokenizer: load_training_data(config, tokenizer), verified=False)
    epoch = setup.plan.epoch(0)
    inputs = epoch.inputs()
    report(0.3, "The step with the longest conversations")
    longest = np.argsort(-inputs, kind="stable")[: config.target_examples_per_step]
    setup.training_step.take(0, [epoch[place] for place in longest])
    seconds, tokens, measured = 0.0, 0, 0
    for step in setup.plan.steps_from(0):
        report(0.4 + 0.5 * measured / STEPS, f"Measured step {measured + 1} of {STEPS}")
        measured += 1
        started = time.perf_counter()
        setup.training_step.take(measured, step)
        seconds += time.perf_counter() - started
        tokens += sum(example.inputs for example in step)
        if measured == STEPS or seconds > ENOUGH_SECONDS:
            break
    report(0.9, "The validation")
    epoch_tokens = int(inputs.sum())
    seconds_per_step = seconds / tokens * epoch_tokens / setup.plan.steps_per_epoch
    validations = 2 + (setup.steps - 1) // setup.eval_every
    seconds_per_validation = _validation_seconds(setup)
    return Needs(
        seconds_per_step=seconds_per_step,
        tokens_per_s=tokens / seconds,
        peak_bytes=int(peak_memory(ranks.device)),
        device_bytes=all_memory(ranks.device),
        device=ranks.device.type,
        dtype=setup.precision,
        parameters=setup.parameter_count,
        steps=setup.steps,
        steps_per_epoch=setup.plan.steps_per_epoch,
        examples_train=len(setup.data.train),
        examples_validation=len(setup.data.validation),
        tokens_per_epoch=epoch_tokens,
        trained_tokens_per_epoch=int(epoch.supervised().sum()),
        validations=validations,
        seconds_per_validation=seconds_per_validation,
        total_seconds=setup.steps * seconds_per_step + validations * seconds_per_validation,
        measured_steps=measured,
        notes=setup.data.notes,
    )


def _validation_seconds(setup: Setup) -> float:
    """Measured on a step's worth of the validation set, for the whole of it."""
    whole = setup.validation_set
    part = whole[: setup.config.target_examples_per_step]
    started = time.perf_counter()
    setup.validate(part)
    seconds = time.perf_counter() - started
    return seconds * sum(example.inputs for example in whole) / sum(example.inputs for example in part)
