"""The training loops that benchmarks/training.py compares: ours, and how others train the same model on the same data.

Every loop is a function `(task, tell)`: it takes optimizer steps without end and tells of each. Every step of every
loop sees the same conversations, all of them, so that their first losses and gradient norms must be equal.
"""

import itertools
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain_model import PlainGPT
from benchmarks.workload import random_model
from nanochat_core.compute.devices import prepare_cpu
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.export.transformers import renamed_weights
from nanochat_core.model.gpt import GPT, NORM_EPSILON, GPTConfig
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.step import TrainingStep

BATCH = 4
"""Conversations in a micro-batch: FinetuneConfig's default, for all."""
RATES = FinetuneConfig("-", matrix_lr=1e-4, embedding_lr=1e-4, unembedding_lr=1e-5)
"""Rates so small that the weights, and with them the work, stay as they are."""
ADAMW_RATE = 1e-6


@dataclass(frozen=True)
class Task:
    """What all loops have in common."""

    config: GPTConfig
    examples: Sequence[Example]
    """The conversations of a step."""
    dtype: torch.dtype
    """Precision of the computation; weights, gradients and optimizers are fp32 in every loop."""


class Step(NamedTuple):
    """What a loop tells of one optimizer step."""

    computing: float
    """Seconds of processor time in forward, backward and the batches."""
    updating: float
    """Seconds of processor time in the optimizer, clearing of gradients included."""
    loss: float
    norm: float | None
    """Norm of the gradient; None where the loop does not compute it."""


Tell = Callable[[Step], object]


def ours(task: Task, tell: Tell) -> None:
    """The trainer's own step."""
    prepare_cpu()
    model = random_model(task.config, task.dtype)
    ranks = Ranks(0, 1, torch.device("cpu"))
    step = TrainingStep(model, build_mode("plain", model, RATES, ranks), ranks, BATCH)
    clock, update = Clock(), step.update

    def timed_update() -> None:
        clock.lap()
        update()

    step.update = timed_update
    while True:
        clock.start()
        loss, norm = step(task.examples)
        computing, updating = clock.laps()
        tell(Step(computing, updating, loss, norm))


def usual(task: Task, tell: Tell) -> None:
    """Padded batches, logits at every position, fp32 cross-entropy, torch's Muon and AdamW."""
    model = PlainGPT(random_model(task.config))
    _plain_loop(task, tell, model, build_plain_optimizers(model), lambda ids, mask: model(ids))


def plain_transformers(task: Task, tell: Tell) -> None:
    """transformers' model in a loop as its users write it: padded batches, labels, AdamW."""
    model = twin(random_model(task.config)).train()
    optimizers = [torch.optim.AdamW(model.parameters(), lr=ADAMW_RATE)]
    _plain_loop(task, tell, model, optimizers, lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits)


def trl(task: Task, tell: Tell, packing: bool) -> None:
    """TRL's SFTTrainer with its own collator, on conversations that are tokenized and labelled already."""
    warnings.simplefilter("ignore")  # of deprecated names, printed once per process
    from datasets import Dataset, disable_progress_bars
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    logging.getLogger("transformers").setLevel(logging.ERROR)

    class Told(TrainerCallback):
        """Hands each step's times and the log's numbers to `tell`."""

        def __init__(self):
            self.clock = Clock()
            self.clock.start()

        def on_pre_optimizer_step(self, *_, **__):
            self.clock.lap()

        def on_step_end(self, *_, **__):
            self.computing, self.updating = self.clock.laps()

        def on_log(self, *_, logs, **__):
            if "grad_norm" in logs:
                tell(Step(self.computing, self.updating, logs["loss"], logs["grad_norm"]))
                self.clock.start()

    rows = [
        {"input_ids": e.ids.tolist(), "labels": torch.where(torch.tensor(e.mask), torch.tensor(e.ids), -100).tolist()}
        for e in task.examples
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=len(rows),  # an epoch is one step
            num_train_epochs=10_000,
            learning_rate=ADAMW_RATE,
            lr_scheduler_type="constant",
            max_length=task.config.sequence_len,
            packing=packing,
            gradient_checkpointing=False,
            bf16=task.dtype == torch.bfloat16,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = SFTTrainer(
            twin(random_model(task.config)),
            settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=_any_tokenizer(task.config.vocab_size),
            callbacks=[Told()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


LOOPS: dict[str, Callable[[Task, Tell], None]] = {
    "usual loop": usual,
    "transformers, plain loop": plain_transformers,
    "TRL, padded": lambda task, tell: trl(task, tell, packing=False),
    "TRL, packing=True": lambda task, tell: trl(task, tell, packing=True),
    "ours": ours,
}


class Clock:
    """Processor time of this process, in laps."""

    def start(self) -> None:
        self.times = [time.process_time()]

    def lap(self) -> None:
        self.times.append(time.process_time())

    def laps(self) -> list[float]:
        """End the last lap; the seconds of each."""
        self.lap()
        return [after - before for before, after in itertools.pairwise(self.times)]


def twin(model: GPT) -> nn.Module:
    """transformers' NanoChatForCausalLM with the weights of `model` and nanochat's rounded rotary angles."""
    from transformers import NanoChatConfig, NanoChatForCausalLM

    config = model.config
    special = {f"{name}_token_id": config.vocab_size - 1 for name in ("bos", "eos", "pad")}
    peer = NanoChatForCausalLM(
        NanoChatConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.n_embd,
            intermediate_size=4 * config.n_embd,
            num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_head,
            num_key_value_heads=config.n_kv_head,
            max_position_embeddings=config.sequence_len,
            rope_theta=10_000.0,
            final_logit_softcapping=15.0,
            hidden_act="relu2",
            rms_norm_eps=NORM_EPSILON,
            tie_word_embeddings=False,
            **special,
        )
    )
    peer.load_state_dict(renamed_weights(model))
    rotary = peer.model.rotary_emb.forward
    peer.model.rotary_emb.forward = lambda *args, **names: tuple(
        angles.bfloat16().to(angles.dtype) for angles in rotary(*args, **names)
    )
    return peer


def _plain_loop(
    task: Task,
    tell: Tell,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    logits_of: Callable[[Tensor, Tensor], Tensor],
) -> None:
    supervised = sum(example.supervised for example in task.examples)
    clock, norm = Clock(), None
    while True:
        clock.start()
        total = 0.0
        for start in range(0, len(task.examples), BATCH):
            ids, mask, targets = _padded(task.examples[start : start + BATCH])
            with torch.autocast("cpu", torch.bfloat16, enabled=task.dtype == torch.bfloat16):
                logits = logits_of(ids, mask)
            loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum") / supervised
            loss.backward()
            total += loss.item()
        if norm is None:
            norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in model.parameters()]).item()
        clock.lap()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        computing, updating = clock.laps()
        tell(Step(computing, updating, total, norm))


def _padded(examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, which are real, targets) of a batch padded to its longest conversation, each (B, T)."""
    longest = max(example.inputs for example in examples)
    ids, mask = torch.zeros(2, len(examples), longest, dtype=torch.long)
    targets = torch.full_like(ids, -100)
    for row, example in enumerate(examples):
        known, wanted = torch.tensor(example.ids, dtype=torch.long), torch.tensor(example.mask)[1:]
        ids[row, : example.inputs], mask[row, : example.inputs] = known[:-1], 1
        targets[row, : example.inputs] = torch.where(wanted, known[1:], -100)
    return ids, mask, targets


def build_plain_optimizers(model: PlainGPT) -> list[torch.optim.Optimizer]:
    """torch's own Muon for the matrices of the blocks and AdamW for both tables, as they come."""
    return [
        torch.optim.Muon(model.blocks.parameters(), lr=RATES.matrix_lr, weight_decay=0.0),
        torch.optim.AdamW([model.wte.weight, model.lm_head.weight], lr=ADAMW_RATE),
    ]


def _any_tokenizer(vocab_size: int) -> object:
    """TRL wants a tokenizer even for data that has ids already; of this one it uses the padding alone."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<end>": vocab_size - 1}, unk_token="<end>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
