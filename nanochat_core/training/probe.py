"""A short measured training before the real one: time and memory of the real model on the real data; writes nothing."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from nanochat_core.compute.devices import choose_device
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.evaluation.validation import validate
from nanochat_core.runs.stopping import StopFlag
from nanochat_core.training.needs import Needs
from nanochat_core.training.trainer import Trainer

STEPS = 4
ENOUGH_SECONDS = 10.0
"""No further step is begun after so much measured time."""


@dataclass(frozen=True)
class _SilentRank(Ranks):
    """The only rank, which leaves the writing to the first one, and so to nobody."""

    is_first = False


@dataclass(frozen=True)
class _UnwrittenRun:
    """As much of a Run as a trainer needs that writes nothing."""

    config: FinetuneConfig
    tag: str = "probe"
    path: Path = Path("/nonexistent/probe")
    """Neither made nor written to: a run that has no checkpoint to go on from."""

    @property
    def resume_dir(self) -> Path:
        return self.path / "resume"

    def settings(self) -> FinetuneConfig:
        return self.config


def probe(config: FinetuneConfig, report: Callable[[float, str], None]) -> Needs:
    """Train some steps of `config` in memory, with the run's own trainer, and measure them.

    The first step takes the longest conversations: it warms up, and it needs the most memory. report(fraction, text)
    is called between the steps. ValueError as from the training itself.
    """
    report(0.0, "Reading the model and the data")
    device = choose_device(config.device_type)
    ranks = _SilentRank(rank=0, world=1, device=device)
    trainer = Trainer(_UnwrittenRun(config), ranks, StopFlag(), say=lambda text: None)
    epoch = trainer.plan.epoch(0)
    inputs = epoch.inputs()
    report(0.3, "The step with the longest conversations")
    longest = np.argsort(-inputs, kind="stable")[: config.target_examples_per_step]
    trainer._step([epoch[place] for place in longest])
    seconds, tokens, measured = 0.0, 0, 0
    for step in trainer.plan.steps_from(0):
        report(0.4 + 0.5 * measured / STEPS, f"Measured step {measured + 1} of {STEPS}")
        started = time.perf_counter()
        trainer._step(step)
        seconds += time.perf_counter() - started
        tokens += sum(example.inputs for example in step)
        measured += 1
        if measured == STEPS or seconds > ENOUGH_SECONDS:
            break
    report(0.9, "The validation")
    epoch_tokens = int(inputs.sum())
    seconds_per_step = seconds / tokens * epoch_tokens / trainer.plan.steps_per_epoch
    validations = 2 + (trainer.steps - 1) // config.eval_every
    seconds_per_validation = _validation_seconds(trainer, ranks)
    return Needs(
        seconds_per_step=seconds_per_step,
        tokens_per_s=tokens / seconds,
        peak_bytes=trainer._memory_bytes(),
        device_bytes=_all_memory(device),
        device=device.type,
        dtype=str(trainer.model.compute_dtype).removeprefix("torch."),
        parameters=sum(parameter.numel() for parameter in trainer.parameters),
        steps=trainer.steps,
        steps_per_epoch=trainer.plan.steps_per_epoch,
        examples_train=len(trainer.data.train),
        examples_validation=len(trainer.data.validation),
        tokens_per_epoch=epoch_tokens,
        trained_tokens_per_epoch=int(epoch.supervised().sum()),
        validations=validations,
        seconds_per_validation=seconds_per_validation,
        total_seconds=trainer.steps * seconds_per_step + validations * seconds_per_validation,
        measured_steps=measured,
        notes=trainer.data.notes,
    )


def _validation_seconds(trainer: Trainer, ranks: Ranks) -> float:
    """Measured on a step's worth of the validation set, for the whole of it."""
    whole = trainer.validation_set
    part = whole[: trainer.config.target_examples_per_step]
    trainer.model.eval()
    started = time.perf_counter()
    validate(trainer.model, part, trainer.token_bytes, ranks, trainer.config.device_batch_size)
    seconds = time.perf_counter() - started
    return seconds * sum(example.inputs for example in whole) / sum(example.inputs for example in part)


def _all_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total
