"""Learning from corrections: DPO's gradient against two models side by side, and what a step says of its pairs."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nanochat_core import FinetuneConfig
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import MEMORY_MODES
from nanochat_core.model.batch import pack
from nanochat_core.tokenizer.rendering import Example, Rejected
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.preference import BETA, PAIRS_SHARE, gains
from nanochat_core.training.step import TrainingStep
from tests.support.tiny import tiny_model

CPU = Ranks(0, 1, torch.device("cpu"))


def _examples(seed: int = 0) -> list[Example]:
    """Two turns each; the first answer, the second one, or none has a rejected one beside it."""
    draw = np.random.default_rng(seed)
    found = []
    for index, turn in enumerate((0, None, 1, 1, 0)):
        sizes = draw.integers(3, 40, 4)  # question, answer, question, answer
        ids = draw.integers(0, 512, sizes.sum()).astype(np.int32)
        edges = np.cumsum([0, *sizes])
        mask = np.zeros(len(ids), bool)
        for start, end in ((edges[1], edges[2]), (edges[3], edges[4])):
            mask[start:end] = True
        rejected = ()
        if turn is not None:
            start, end = int(edges[2 * turn + 1]), int(edges[2 * turn + 2])
            other = np.concatenate([ids[:start], draw.integers(0, 512, draw.integers(2, 30)).astype(np.int32)])
            rejected = (Rejected(other, np.arange(len(other)) >= start, (start, end)),)
        found.append(Example(ids, mask, index, rejected=rejected))
    return found


def _nats(model, ids: np.ndarray, wanted: np.ndarray) -> torch.Tensor:
    """Summed nats of the wanted tokens, by the logits of every position."""
    tokens = torch.tensor(ids, dtype=torch.long)
    targets = torch.where(torch.tensor(wanted), tokens, -100)[1:]
    return F.cross_entropy(model(tokens[None, :-1])[0], targets, ignore_index=-100, reduction="sum")


def _within(ids: np.ndarray, start: int, end: int) -> np.ndarray:
    return (np.arange(len(ids)) >= start) & (np.arange(len(ids)) < end)


def _direct(model, before, examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean loss of the trained answers, mean of -log sigmoid(z) over the pairs) with both models at hand."""
    trained, preferences = torch.zeros(()), []
    for example in examples:
        trained = trained + _nats(model, example.ids, example.mask)
        for one in example.rejected:
            chosen = _within(example.ids, *one.chosen)
            c, r = _nats(model, example.ids, chosen), _nats(model, one.ids, one.mask)
            with torch.no_grad():
                c0, r0 = _nats(before, example.ids, chosen), _nats(before, one.ids, one.mask)
            preferences.append(-F.logsigmoid(BETA * ((r - r0) - (c - c0))))
    return trained / sum(example.supervised for example in examples), torch.stack(preferences).mean()


def _reference(model, examples: list[Example]) -> dict[int, list[float]]:
    with torch.no_grad():
        return {
            example.index: [
                (_nats(model, one.ids, one.mask) - _nats(model, example.ids, _within(example.ids, *one.chosen))).item()
                for one in example.rejected
            ]
            for example in examples
        }


def _moved(generation: str):
    """(a model, the same before it was trained a little)."""
    before = tiny_model(generation, n_layer=2, sequence_len=128)
    model = copy.deepcopy(before)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model, before


def _step(model, reference, ranks=CPU, memory="plain") -> TrainingStep:
    mode = build_mode(memory, model, FinetuneConfig("-"), ranks)
    return TrainingStep(model, mode, ranks, device_batch_size=2, reference=reference)


@pytest.mark.parametrize("generation", "AE")
def test_loss_and_gradient_equal_those_of_two_models(generation):
    model, before = _moved(generation)
    examples, direct = _examples(), copy.deepcopy(model)
    trained, preference = _direct(direct, before, examples)
    (trained + PAIRS_SHARE * preference).backward()
    step = _step(model, _reference(before, examples))
    figures = step.accumulate(examples)
    for (name, parameter), other in zip(model.named_parameters(), direct.parameters()):
        scale = max(other.grad.norm().item(), 1e-2)
        assert (parameter.grad - other.grad).norm().item() / scale < 1e-5, name
    assert figures.read(CPU, [torch.ones(())])[0] == pytest.approx(trained.item(), rel=1e-5)


@pytest.mark.parametrize("memory", MEMORY_MODES[1:])
def test_every_memory_mode_learns_from_pairs_alike(memory):
    examples, found = _examples(), []
    for each in ("plain", memory):
        model, before = _moved("E")
        step = _step(model, _reference(before, examples), memory=each)
        results = [step.take(number, examples) for number in range(2)]
        weights = [step.mode.weight(name) for name in step.mode.parts.rules]
        found.append(([(one.train_loss, one.grad_norm, one.preference) for one in results], weights))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1]))


def test_a_step_says_how_its_pairs_stood():
    model, before = _moved("A")
    examples = _examples()
    _, preference = _direct(model, before, examples)
    result = _step(model, _reference(before, examples)).take(0, examples)
    assert result.preference is not None
    assert result.preference.preference_loss == pytest.approx(preference.item(), rel=1e-4)
    fresh = _step(before, _reference(before, examples)).take(0, examples)
    assert fresh.preference.preference_loss == pytest.approx(math.log(2), abs=1e-4)
    assert [len(one.margins) for one in sorted(result.examples, key=lambda one: one.index)] == [1, 0, 1, 1, 1]


def test_the_loss_of_a_conversation_leaves_the_rejected_answer_out():
    examples = _examples()
    model = tiny_model("A", n_layer=2, sequence_len=128)
    with_pairs = _step(copy.deepcopy(model), _reference(model, examples)).take(0, examples)
    without = _step(model, None).take(0, [dataclasses.replace(one, rejected=()) for one in examples])
    assert with_pairs.train_loss == pytest.approx(without.train_loss, rel=1e-6)
    found = {one.index: one.nats for one in with_pairs.examples}
    assert found == pytest.approx({one.index: one.nats for one in without.examples}, rel=1e-5)


def test_pairs_are_not_packed_unless_that_is_asked_for():
    examples = _examples()
    plain = pack(examples)
    assert plain.pairs is None
    assert len(plain.lengths) == len(examples)
    both = pack(examples, {one.index: [0.0] * len(one.rejected) for one in examples})
    assert len(both.lengths) == len(examples) + 4
    assert int((both.pairs.sign < 0).sum()) == sum(int(one.mask.sum()) for e in examples for one in e.rejected)
    assert gains(torch.zeros(len(both.labels)), both.pairs).tolist() == [0.0] * 4


def test_rows_without_pairs_may_share_a_step_with_others():
    model, before = _moved("A")
    examples = [example for example in _examples() if not example.rejected]
    result = _step(model, _reference(before, examples)).take(0, examples)
    assert result.preference is None
    assert math.isfinite(result.train_loss)
