"""A tiny training in any memory mode, and all that lasts of it."""

import torch

from nanochat_core import FinetuneConfig
from nanochat_core.compute.ranks import Ranks
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.modes.collecting import state_to_collect, weights_to_collect
from nanochat_core.training.step import TrainingStep
from tests.support.tiny import tiny_model

CPU = Ranks(0, 1, torch.device("cpu"))
SHAPE = {"n_layer": 3, "n_head": 2, "n_kv_head": 2, "n_embd": 32, "sequence_len": 128, "window_pattern": "SL"}
LENGTHS = (5, 70, 33, 2, 21)
MICRO_BATCH = 2


def examples(seed: int, lengths=LENGTHS) -> list[Example]:
    """Conversations of random tokens, about half of them trained."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index, length in enumerate(lengths):
        ids = torch.randint(0, 512, (length,), generator=generator, dtype=torch.int32)
        mask = torch.rand(length, generator=generator) < 0.5
        mask[-1] = True
        found.append(Example(ids.numpy(), mask.numpy(), index))
    return found


def tiny_step(
    memory: str, generation: str, dtype: torch.dtype, ranks: Ranks = CPU, *, fixed_sums: bool = False, **shape
) -> TrainingStep:
    """A training at its first step; shape: what is otherwise than in SHAPE."""
    if ranks.device.type == "meta":
        model = GPT(GPTConfig(**{**SHAPE, "vocab_size": 512, **shape}, generation=generation))
    else:
        model = tiny_model(generation, **{**SHAPE, **shape})
    model.compute_dtype = dtype
    mode = build_mode(memory, model, FinetuneConfig("-"), ranks)
    return TrainingStep(model, mode, ranks, MICRO_BATCH, lambda step: 1 / (step + 1), fixed_sums=fixed_sums)


def lasting(step: TrainingStep) -> dict[str, torch.Tensor]:
    """Weights and optimizer state by name, each a copy; empty on other ranks than the first."""
    wanted = dict(weights_to_collect(step.mode, step.ranks))
    for name, values in state_to_collect(step.mode, step.ranks).items():
        wanted.update((f"{name} {key}", value) for key, value in values.items())
    made = {name: later.make() for name, later in wanted.items()}
    found = {name: tensor.clone() for name, tensor in made.items() if tensor is not None}
    return found


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Names of what is not the same to the last bit."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]
