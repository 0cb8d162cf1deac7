"""Sums over several processes that begin on the way back: on whole gradients alone, in one order, the same bits."""

from functools import partial

import pytest
import torch

from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.model.adapters import attach
from nanochat_core.model.batch import pack
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.modes.early import watched
from nanochat_core.training.modes.sums import AnyOrder
from nanochat_core.training.step import TrainingStep
from nanochat_core.training.units import units_of
from tests.support.adapters import random_adapter
from tests.support.forked_ranks import on_ranks
from tests.support.modes import MICRO_BATCH, SHAPE, differing, examples, lasting, tiny_step
from tests.support.tiny import tiny_model

LENGTHS = (9, 70, 33, 4, 21, 50, 17, 28, 3, 64, 40)


def _model(generation: str, *, adapted: bool):
    model = tiny_model(generation, **SHAPE)
    if adapted:
        attach(model, random_adapter(model))
    return model


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("generation", "ABCDE")
def test_a_gradient_is_whole_when_it_is_said(generation, adapted):
    model = _model(generation, adapted=adapted)
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    for each in trained.values():
        each.grad = torch.zeros_like(each)
    units, seen, said = units_of(model), {}, []

    def whole(layer):
        said.append(layer)
        for unit in units:
            if unit.is_above(layer):
                seen.update((name, trained[name].grad.clone()) for name in unit.names if name not in seen)

    batch = pack(examples(0))
    with watched(model, whole):
        model.add_gradients(batch, 1.0)
    assert said == ([None, 2, 1] if adapted else [None, 2, 1, 0])  # nothing below an adapter's first block has one
    assert set(trained) - set(seen) == set((units[-2].names if adapted else ()) + units[-1].names)
    assert not [name for name, gradient in seen.items() if not torch.equal(gradient, trained[name].grad)]
    model.add_gradients(batch, 1.0)
    assert len(said) == (3 if adapted else 4)  # the hooks are gone


@pytest.mark.parametrize("memory", ["plain", "checkpointed"])
def test_the_sums_of_a_block_begin_before_those_below_are_computed(memory, monkeypatch):
    begun, computed = [], []

    def start_sum(ranks, tensors, owner):
        begun.append(([id(tensor) for tensor in tensors], len(computed)))
        return lambda: None

    monkeypatch.setattr(Ranks, "start_sum", start_sum)
    monkeypatch.setattr(Ranks, "start_handing_out", lambda *_: lambda: None)
    step = tiny_step(memory, "E", torch.float32, Ranks(0, 2, torch.device("cpu")))
    for block in step.model.transformer.blocks:
        block.attn.c_q.register_full_backward_hook(lambda *_: computed.append(None))
    step.accumulate(examples(0, LENGTHS))
    order = [[id(step.model.get_parameter(name).grad) for name in unit.names] for unit in step.mode.parts.units]
    assert [tensors for tensors, _ in begun] == order
    everything = len(computed)
    assert [everything - count for _, count in begun] == [3, 2, 1, 0, 0]


def _train(ranks, memory, generation, *, adapted=False, lengths=LENGTHS, early=True):
    AnyOrder.is_one_part = early
    if adapted:
        model, config = _model(generation, adapted=True), FinetuneConfig("-", method="lora")
        step = TrainingStep(model, build_mode(memory, model, config, ranks), ranks, MICRO_BATCH)
    else:
        step = tiny_step(memory, generation, torch.bfloat16, ranks)
    issued, start = [], Ranks.start_sum
    Ranks.start_sum = lambda ranks, tensors, owner: issued.append(owner) or start(ranks, list(tensors), owner)
    results = [step.take(number, examples(number, lengths)) for number in range(3)]
    return [(each.train_loss, each.grad_norm) for each in results], lasting(step), issued


@pytest.mark.processes
@pytest.mark.parametrize(
    ("world", "memory", "generation", "options"),
    [
        (2, "plain", "E", {}),
        (4, "plain", "A", {}),
        (4, "plain", "E", {"lengths": (9, 70, 33)}),  # two micro-batches: two of the ranks have none
        (2, "checkpointed", "E", {}),
        (2, "plain", "A", {"adapted": True}),
    ],
)
def test_the_bits_are_those_of_sums_after_the_way_back(tmp_path, world, memory, generation, options):
    work = partial(_train, memory=memory, generation=generation, **options)
    late, early = (on_ranks(world, tmp_path / f"{first}", partial(work, early=first)) for first in (False, True))
    assert early[0][0] == late[0][0]
    assert differing(early[0][1], late[0][1]) == []
    assert len({tuple(issued) for _, _, issued in early}) == 1  # one order on all of them


@pytest.mark.processes
def test_a_gradient_that_is_no_number_ends_every_rank_alike(tmp_path):
    def diverging(ranks):
        step = tiny_step("plain", "E", torch.float32, ranks)
        if ranks.rank == 1:
            step.model.transformer.blocks[1].mlp.c_fc.weight.data.fill_(float("nan"))
        with pytest.raises(Exception, match="diverged at step 1"):
            step.take(0, examples(0, LENGTHS))
        return True

    assert on_ranks(2, tmp_path / "two", diverging) == [True, True]
