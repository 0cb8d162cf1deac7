"""The bytes of the plan are those of the training's own tensors."""

from dataclasses import replace

import pytest
import torch

from nanochat_core.memory.parts import FIXED, Training, count_parameters, needs
from nanochat_core.memory.shapes import shape_of_depth
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import GENERATIONS, GPTConfig
from tests.support.meta_step import tracked_peak

D32 = GPTConfig()
SMALL = replace(shape_of_depth(6), window_pattern="SSSL")


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("kv_heads", [1, 3])
def test_parameters_are_counted_as_the_model_has_them(generation, kv_heads):
    shape = replace(SMALL, generation=generation, n_kv_head=kv_heads, padded_vocab_size=65600)
    with torch.device("meta"):
        model = GPT(shape)
    count = count_parameters(shape)
    assert count.total == sum(parameter.numel() for parameter in model.parameters())
    blocks = [sum(parameter.numel() for parameter in block.parameters()) for block in model.transformer.h]
    assert (count.matrices, count.block) == (sum(blocks), max(blocks))
    assert count.head == model.lm_head.weight.numel()


def _check(training: Training, conversations: int, micro_batch: int, memory: str) -> None:
    planned = next(need for need in needs(training) if need.memory == memory).card_bytes - FIXED
    tracked = tracked_peak(training, conversations, micro_batch)
    assert planned == pytest.approx(tracked, rel=0.05)


@pytest.mark.parametrize("memory", ["plain"])
def test_the_peak_of_a_step_of_d32_is_the_planned_one(memory):
    _check(Training(D32, micro_batch_tokens=8192, step_tokens=8192), 4, 4, memory)


@pytest.mark.parametrize("memory", ["plain"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("generation", ["A", "B", "E"])
def test_the_peak_is_the_planned_one_in_each_generation_and_precision(generation, dtype, memory):
    shape = replace(SMALL, n_layer=3, generation=generation)
    _check(Training(shape, micro_batch_tokens=4096, step_tokens=8192, dtype=dtype), 4, 2, memory)
