"""What is measured: the models' shapes, and conversations of the lengths that people train on."""

import random

import torch

from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.tokenizer.rendering import Example

MEDIAN_TOKENS, SPREAD = 120, 0.8
"""Lengths are lognormal."""
SUPERVISED = 0.46
"""Share of the tokens that are trained on."""


def _shape(n_layer: int, n_embd: int, vocab_size: int, sequence_len: int) -> GPTConfig:
    heads = n_embd // 128
    return GPTConfig(sequence_len, vocab_size, n_layer, heads, heads, n_embd)


SHAPES = {
    "d4": _shape(4, 256, 8192, 512),
    "d8": _shape(8, 512, 32768, 1024),
    "d12": _shape(12, 768, 65536, 2048),
    "d32": GPTConfig(),
}
TINY = _shape(2, 128, 512, 1024)
"""For a run that only shows that a benchmark works."""


def random_model(config: GPTConfig, compute_dtype: torch.dtype = torch.float32, seed: int = 0) -> GPT:
    """A model whose logits are neither flat nor saturated, so that losses and greedy choices tell errors apart."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT(config, compute_dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 1.0 if name.endswith("wte.weight") else parameter.shape[-1] ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model


def conversations(config: GPTConfig, count: int, seed: int = 0) -> list[Example]:
    """`count` conversations of random tokens: turns of random lengths, every second one of the assistant."""
    chance = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(count):
        length = round(chance.lognormvariate(0.0, SPREAD) * MEDIAN_TOKENS)
        length = min(max(length, 8), config.sequence_len)
        ids = torch.randint(0, config.vocab_size, (length,), generator=generator, dtype=torch.int32)
        mask = torch.zeros(length, dtype=torch.bool)
        place, trained = chance.randint(1, 20), True
        while place < length:  # runs of trained tokens, on average as long as SUPERVISED says
            run = chance.randint(1, round(80 * (SUPERVISED if trained else 1 - SUPERVISED)))
            mask[place : place + run] = trained
            place, trained = place + run, not trained
        found.append(Example(ids.numpy(), mask.numpy(), index))
    return found
