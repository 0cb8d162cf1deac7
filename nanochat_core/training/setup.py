"""What a training computes with: model, data, plan and memory mode from a FinetuneConfig. Nothing here knows a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from nanochat_core.checkpoint.adapters import read_adapter
from nanochat_core.checkpoint.loading import build_model
from nanochat_core.checkpoint.reading import model_config, read_checkpoint
from nanochat_core.compute.devices import choose_compute_dtype, prepare_cpu
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.data.tokens.plan import Plan
from nanochat_core.data.training_data import TrainingData
from nanochat_core.evaluation.answers import evaluate
from nanochat_core.evaluation.gauge import Gauge, read_gauge, write_gauge
from nanochat_core.evaluation.questions import Question
from nanochat_core.evaluation.validation import Validation, validate
from nanochat_core.model.adapters import Adapter, attach, new_adapter
from nanochat_core.model.batch import Reference
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.paths import ModelFiles, find_model
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.tokenizer.tokenizer import Tokenizer
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.modes.choice import choose_memory
from nanochat_core.training.modes.mode import Mode
from nanochat_core.training.optimizers import learning_rate_multiplier
from nanochat_core.training.preference import measure_reference
from nanochat_core.training.step import TrainingStep

LONGEST_WITHOUT_VALIDATION = 50
"""Steps, where a run validates at each tenth of its way (eval_every -1)."""


@dataclass(frozen=True)
class Setup:
    """One rank's model, data and memory mode, and the two things that are done with them: a step and a validation."""

    config: FinetuneConfig
    ranks: Ranks
    model: GPT
    tokenizer: Tokenizer
    data: TrainingData
    plan: Plan
    steps: int
    """Optimizer steps of the whole training."""
    validation_set: Sequence[Example]
    token_bytes: torch.Tensor
    """(vocab_size,): bytes of each token, 0 for special ones."""
    training_step: TrainingStep
    gauge: Gauge | None = None
    """Of the base, on the validation set."""
    memory_note: str | None = None
    """Why the memory mode is the one that it is, as a sentence, where there was a choice."""

    def validate(self, examples: Sequence[Example] | None = None) -> Validation:
        """The validation of the model as it is, on `examples` instead of the whole validation set if given."""
        self.model.eval()
        gauge = self.gauge if examples is None else None
        examples = self.validation_set if examples is None else examples
        return validate(self.model, examples, self.token_bytes, self.ranks, self.config.device_batch_size, gauge)

    def questions_answered(self, questions: Sequence[Question]) -> int:
        """How many of the questions the model as it is answers; each rank asks its share."""
        self.model.eval()
        mine = questions[self.ranks.rank :: self.ranks.world]
        right = evaluate(self.model, self.tokenizer, mine).correct if mine else 0
        return round(self.ranks.sum([right])[0])

    def gauged(self, path: Path, *, is_new: bool) -> "Setup":
        """The same, whose validations tell the distance from the base; what is needed of it is kept in `path`.

        is_new: the model is the base still, and is written there. Without that file, which a run of before has not,
        nothing is told. All ranks call it.
        """
        if is_new and self.ranks.is_first:
            self.model.eval()
            write_gauge(path, self.model, self.validation_set, self.config.device_batch_size, self.ranks)
        self.ranks.wait()
        is_everywhere = all(
            self.ranks.every("seen" if path.is_file() else "")
        )  # ranks of other machines may not see it
        return replace(self, gauge=read_gauge(path)) if is_everywhere else self

    @property
    def eval_every(self) -> int:
        """Steps between two validations."""
        every = self.config.eval_every
        return every if every > 0 else max(1, min(LONGEST_WITHOUT_VALIDATION, self.steps // 10))

    @property
    def parameter_count(self) -> int:
        """Of the model; those of an adapter are not counted."""
        every = sum(parameter.numel() for parameter in self.model.parameters())
        return every - self.trained_count if self.model.is_adapted else every

    @property
    def trained_count(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    @property
    def mode(self) -> Mode:
        """The memory mode."""
        return self.training_step.mode

    @property
    def precision(self) -> str:
        """The number format of the computation, as `dtype` names it."""
        return str(self.model.compute_dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Earlier:
    """What a resumed run brings along beside the model that it had come to."""

    adapter: ModelFiles | None = None
    """With method lora: the adapter as it was."""
    reference: Reference | None = None
    """With learn_from_corrections: how the model before the training saw the rejected answers."""


NOTHING_EARLIER = Earlier()


def set_up(  # noqa: PLR0913  all but the first four are options
    config: FinetuneConfig,
    ranks: Ranks,
    files: ModelFiles,
    load_data: Callable[[Tokenizer], TrainingData],
    *,
    verified: bool = True,
    earlier: Earlier = NOTHING_EARLIER,
    folder: Path | None = None,
) -> Setup:
    """Everything for the training of the model in `files`, which is loaded in fp32.

    With method lora it is loaded in the precision of the computation, whose numbers are the same, and frozen; what is
    trained is a new adapter, or, in a resumed run, the earlier one.
    load_data: gives the training data in the model's tokens. verified: as of `read_checkpoint`. ValueError when
    the model or the data cannot be used. folder: where a CPU keeps what a memory mode has in the host's memory.
    """
    if ranks.device.type == "cpu":
        prepare_cpu()
    weights, meta, tokenizer = read_checkpoint(files, verified=verified)
    data = load_data(tokenizer)
    plan = Plan(data.train, data.replay, config.replay_ratio, config.target_examples_per_step, config.seed)
    shape = model_config(meta, weights)
    memory, note = choose_memory(config, shape, ranks, data.lengths())
    model = build_for_mode(config, shape, weights, ranks, memory)
    if config.method == "lora":
        found = earlier.adapter
        attach(model, read_adapter(found.weights.parent) if found else _new_adapter(model, config))
    mode = build_mode(memory, model, config, ranks, folder)
    steps = config.num_iterations if config.num_iterations > 0 else config.num_epochs * plan.steps_per_epoch
    first = 1.0 if config.method == "lora" else config.init_lr_frac
    schedule = partial(learning_rate_multiplier, steps=steps, init_lr_frac=first)
    reference = earlier.reference
    if config.learn_from_corrections and reference is None:
        reference = measure_reference(model, data.train, config.device_batch_size, ranks)
    return Setup(
        config=config,
        ranks=ranks,
        model=model,
        tokenizer=tokenizer,
        data=data,
        plan=plan,
        steps=steps,
        validation_set=data.validation[: config.eval_steps * config.target_examples_per_step],
        token_bytes=torch.tensor(tokenizer.token_bytes()),
        training_step=TrainingStep(
            model, mode, ranks, config.device_batch_size, schedule, reference, fixed_sums=config.fixed_sums
        ),
        memory_note=note,
    )


def base_files(config: FinetuneConfig) -> ModelFiles:
    """The files of the model that a new run of `config` begins with. ValueError when there is no such model."""
    return find_model(config.base_name, config.model_step, config.base_source)


def build_for_mode(
    config: FinetuneConfig, shape: GPTConfig, weights: dict[str, Tensor], ranks: Ranks, memory: str
) -> GPT:
    """The model of these weights, which are used up, as it is before the memory mode `memory` has it."""
    # One for all ranks, also where their devices differ: what they send each other has one size.
    in_bf16 = all(ranks.gather(choose_compute_dtype(config.dtype, ranks.device) == torch.bfloat16))
    compute_dtype = torch.bfloat16 if in_bf16 else torch.float32
    if config.method == "lora":
        return build_model(shape, weights, ranks.device, compute_dtype, compute_dtype)
    if memory in ("plain", "checkpointed"):
        return build_model(shape, weights, ranks.device, torch.float32, compute_dtype)
    # The mode takes the weights to the device tensor by tensor; in fp32 they would not all fit there.
    stays = ranks.device.type == "cpu" and compute_dtype == torch.float32
    return build_model(shape, weights, torch.device("cpu"), torch.float32, compute_dtype, mapped=not stays)


def _new_adapter(model: GPT, config: FinetuneConfig) -> Adapter:
    return new_adapter(model, config.lora_modules, config.lora_rank, config.lora_alpha, config.seed)
