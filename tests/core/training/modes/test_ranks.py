"""Several processes: the bits of one where sums have a fixed order, else its losses; in every memory mode."""

from functools import partial

import pytest
import torch

from tests.support.forked_ranks import on_ranks
from tests.support.modes import differing, examples, lasting, tiny_step

pytestmark = pytest.mark.processes

STEPS = 10
LENGTHS = (9, 70, 33, 4, 21, 50, 17, 28, 3, 64, 40)
"""Eleven conversations in micro-batches of two: six of them, which no number of ranks divides evenly."""


def _train(ranks, memory="plain", steps=range(STEPS), earlier=None, dtype=torch.bfloat16, **options):
    """(loss, norm and conversations of each step; weights and state, on the first rank)."""
    step = tiny_step(memory, "E", dtype, ranks, **options)
    for name in step.mode.parts.rules if earlier else ():
        step.mode.set_weight(name, earlier[name])
        if step.mode.parts.is_mine(name):
            state = {key.partition(" ")[2]: value for key, value in earlier.items() if key.startswith(f"{name} ")}
            step.mode.set_state(name, state)
    results = [step.take(number, examples(number, LENGTHS)) for number in steps]
    return [(one.train_loss, one.grad_norm, one.examples) for one in results], lasting(step)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A single process with sums in the fixed order."""
    return on_ranks(1, tmp_path_factory.mktemp("one") / "x", partial(_train, fixed_sums=True))[0]


@pytest.mark.parametrize(("world", "memory"), [(2, "plain"), (4, "plain"), (3, "layerwise"), (2, "offloaded_all")])
def test_the_bits_do_not_depend_on_the_number_of_processes(alone, tmp_path, world, memory):
    found = on_ranks(world, tmp_path / "many", partial(_train, memory=memory, fixed_sums=True))
    assert all(figures == alone[0] for figures, _ in found)
    assert differing(found[0][1], alone[1]) == []


def test_nor_does_a_resume_with_another_number(alone, tmp_path):
    """Four processes, then one, then two, each in another mode."""
    last = None
    for world, memory, steps in ((4, "layerwise", range(4)), (1, "offloaded", range(4, 7)), (2, "plain", range(7, 10))):
        work = partial(_train, memory=memory, steps=steps, earlier=last, fixed_sums=True)
        last = on_ranks(world, tmp_path / str(world), work)[0][1]
    assert differing(last, alone[1]) == []


@pytest.mark.parametrize("memory", ["plain", "layerwise"])
def test_without_a_fixed_order_the_losses_are_equal_to_rounding(tmp_path, memory, monkeypatch):
    """In fp32 throughout: Muon's own bf16 would show the rounding of a sum within some steps."""
    monkeypatch.setattr("nanochat_core.training.muon.choose_compute_dtype", lambda *_: torch.float32)
    monkeypatch.setattr("nanochat_core.training.muon.can_orthogonalize", lambda device: False)
    work = partial(_train, memory=memory, dtype=torch.float32)
    one, three = (on_ranks(world, tmp_path / str(world), work)[0][0] for world in (1, 3))
    for (loss, norm, _), (other, other_norm, _) in zip(one, three):
        assert other == pytest.approx(loss, rel=1e-6)
        assert other_norm == pytest.approx(norm, rel=1e-4)


def test_each_rank_keeps_the_state_of_its_own_parameters(tmp_path):
    def mine(ranks):
        step = tiny_step("layerwise", "A", torch.float32, ranks)
        step.take(0, examples(0, LENGTHS))
        return [name for name in step.mode.parts.rules if step.mode.parts.is_mine(name)]

    parts = on_ranks(2, tmp_path / "two", mine)
    assert min(map(len, parts)) > 0
    assert not set(parts[0]) & set(parts[1])
