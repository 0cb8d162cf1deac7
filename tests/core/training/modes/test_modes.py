"""Every memory mode gives the bits of plain: weights, optimizer state, losses and norms, also when it takes over."""

from functools import cache

import pytest
import torch

from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import MEMORY_MODES
from tests.support.modes import differing, examples, lasting, tiny_step

OTHERS = MEMORY_MODES[1:]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
STEPS = 20


@cache
def _plain(generation: str, dtype: str, steps: int):
    step = tiny_step("plain", generation, DTYPES[dtype])
    figures = [_figures(step, number) for number in range(steps)]
    return figures, lasting(step)


def _figures(step, number: int):
    result = step.take(number, examples(number))
    return result.train_loss, result.grad_norm, result.examples


@pytest.mark.parametrize("memory", OTHERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("generation", "steps"), [("A", STEPS), ("B", 3), ("C", 3), ("D", 3), ("E", STEPS)])
def test_the_bits_are_those_of_plain(generation, steps, dtype, memory):
    """Three micro-batches a step, Muon and AdamW."""
    figures, expected = _plain(generation, dtype, steps)
    step = tiny_step(memory, generation, DTYPES[dtype])
    for number in range(steps):
        assert _figures(step, number) == figures[number]
    assert differing(lasting(step), expected) == []


@pytest.mark.parametrize("kv_heads", [1, 2])  # 1: attention takes the way of a GPU
@pytest.mark.parametrize("layers", [1, 2])  # 1: the block is the first, the middle and the last at once
@pytest.mark.parametrize("memory", OTHERS)
def test_so_they_are_for_models_of_one_block_and_shared_heads(memory, layers, kv_heads):
    shape = {"n_layer": layers, "n_kv_head": kv_heads}
    steps = [tiny_step(each, "E", torch.bfloat16, **shape) for each in ("plain", memory)]
    for number in range(2):
        assert _figures(steps[0], number) == _figures(steps[1], number)
    assert differing(lasting(steps[0]), lasting(steps[1])) == []


@pytest.mark.parametrize("generation", "AE")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_training_may_go_through_all_modes(generation, dtype):
    """What one mode saved, another resumes from: the end is that of plain alone."""
    _, expected = _plain(generation, dtype, STEPS)
    order = ["offloaded", "plain", "offloaded_all", "checkpointed", "layerwise"]
    step = None
    for number in range(STEPS):
        if number % 4 == 0:
            before, step = step, tiny_step(order[number // 4], generation, DTYPES[dtype])
            if before:
                _take_over(step, before)
        step.take(number, examples(number))
    assert differing(lasting(step), expected) == []


def _take_over(step, before) -> None:
    found = lasting(before)
    for name in step.mode.parts.rules:
        step.mode.set_weight(name, found[name])
        state = {key.partition(" ")[2]: value for key, value in found.items() if key.startswith(f"{name} ")}
        step.mode.set_state(name, state)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory", ["offloaded", "offloaded_all"])
def test_what_is_copied_to_a_device_and_back_keeps_its_bits(memory, dtype, monkeypatch):
    """The way of a GPU: two buffers, filled and emptied in turn, and borders that come one after the other."""
    _, expected = _plain("E", dtype, 3)
    monkeypatch.setattr("nanochat_core.training.modes.build._has_memory_of_its_own", lambda device: True)
    step = tiny_step(memory, "E", DTYPES[dtype])
    for number in range(3):
        step.take(number, examples(number))
    assert differing(lasting(step), expected) == []


@pytest.mark.parametrize("generation", "AE")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory", MEMORY_MODES)
def test_a_step_goes_the_way_of_another_device_without_waiting(memory, dtype, generation):
    """Meta tensors: a shape or a device that does not fit shows, and so does a number that is read back."""
    meta = Ranks(0, 1, torch.device("meta"))
    with torch.device("meta"):
        step = tiny_step(memory, generation, DTYPES[dtype], meta)
    for number in range(2):
        step.accumulate(examples(number))
        assert all(norm.is_meta for norm in step.mode.norms())
        step.update()
    assert all(parameter.is_meta for parameter in step.model.parameters())


@pytest.mark.parametrize("memory", ["layerwise", "offloaded"])
def test_where_there_are_halves_the_whole_weight_is_nowhere(memory):
    """Whoever read it would read no numbers."""
    step = tiny_step(memory, "E", torch.bfloat16)
    matrices = [p for p in step.model.parameters() if p.ndim == 2 and p.numel() % 8 == 0]
    assert len(matrices) > 10
    assert all(matrix.untyped_storage().nbytes() == 4 and matrix.isnan().all() for matrix in matrices)
    result = step.take(0, examples(0))
    assert torch.isfinite(torch.tensor(result.train_loss))


def test_replies_and_validations_are_those_of_plain():
    found = []
    for memory in ("plain", "offloaded"):
        step = tiny_step(memory, "E", torch.bfloat16)
        step.take(0, examples(0))
        ids = torch.tensor(examples(1)[1].ids, dtype=torch.long)[None]
        with torch.no_grad():
            nats, _ = step.model.token_nats(ids[:, :-1], ids[:, 1:])
            cache = step.model.new_cache(1, 100)
            found.append((nats, step.model._continue_by_torch(ids, cache, [ids.shape[1]]), step.model(ids, cache=None)))
    assert all(torch.equal(a, b) for a, b in zip(*found))
