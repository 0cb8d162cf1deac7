"""Choosing the next token: the compiled way and torch's choose the same, with the probabilities that are asked for."""

import math
import random
from unittest.mock import patch

import pytest
import torch

from nanochat_core.engine import sampling
from nanochat_core.engine.sampling import Sampling

SETTINGS = [(0.7, 50, 1.0), (1.0, 0, 1.0), (1.0, 200, 0.9), (0.3, 5, 0.5), (0.0, None, 1.0), (1e-30, 50, 1.0)]


def _chosen(logits, settings, seed):
    temperature, top_k, top_p = settings
    sources = [random.Random(seed + row) for row in range(len(logits))]
    return Sampling(temperature, top_k, 1, top_p).choose(logits, sources)


def _way(compiled):
    return patch.object(sampling, "_compiled", sampling._compiled if compiled else lambda: None)


@pytest.mark.parametrize("size", [1, 7, 16, 512, 5003])
@pytest.mark.parametrize("settings", SETTINGS)
def test_compiled_and_torch_choose_the_same(settings, size):
    for seed in range(0, 160, 8):
        logits = 3 * torch.randn(8, 1, size, generator=torch.Generator().manual_seed(seed))
        if seed % 16:
            logits = logits.bfloat16().float()  # many are equal
        found = _chosen(logits, settings, seed)
        with _way(compiled=False):
            assert _chosen(logits, settings, seed) == found
            assert _chosen(logits[:, 0].double().bfloat16(), settings, seed) == found or not seed % 16


def test_the_compiled_way_is_the_one_that_is_taken(monkeypatch):
    logits = torch.randn(2, 5003)
    monkeypatch.setattr(Sampling, "_choose_by_torch", None)
    for top_k in (1, 50, 256):
        assert len(_chosen(logits, (1.0, top_k, 1.0), 1)) == 2
    with pytest.raises(TypeError):
        _chosen(logits, (1.0, 257, 1.0), 1)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_sum_that_rounding_keeps_from_top_p_has_reached_it(compiled):
    logits = torch.log(torch.tensor([[0.7, 0.3]]))
    weights = (logits - logits[0, 0]).double().exp()
    assert weights[0, 0] < 0.7 * weights.sum()  # by 4e-9
    with _way(compiled):
        assert {_chosen(logits, (1.0, 2, 0.7), seed)[0] for seed in range(60)} == {0}


@pytest.mark.parametrize("compiled", [True, False])
def test_infinite_logits_count_as_the_largest_numbers(compiled):
    infinite, size = float("inf"), 40
    logits = torch.randn(4, size, generator=torch.Generator().manual_seed(0))
    logits[0, [7, 21]] = infinite
    logits[1] = -infinite
    logits[1, [3, 30]] = 1.0
    logits[2, :] = infinite
    logits[3, :] = -infinite
    picks = [set() for _ in logits]
    for seed in range(400):
        for top_k in (0, 4):
            with _way(compiled):
                found = _chosen(logits, (1.0, top_k, 1.0), seed)
            for seen, pick in zip(picks, found):
                seen.add(pick)
    assert picks[:2] == [{7, 21}, {3, 30}]
    assert picks[2] == picks[3] == set(range(size))
    with _way(compiled):
        assert _chosen(logits, (0.0, None, 1.0), 1) == [7, 3, 0, 0]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
def test_no_rows_no_choices(compiled, settings):
    with _way(compiled):
        assert _chosen(torch.zeros(0, 1, 300), settings, 1) == []


class Elsewhere(torch.Tensor):
    """On another device, as it were: it must not be copied as a whole."""

    is_cpu = False

    def cpu(self):
        raise AssertionError("all logits are copied")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_greedy_choices_are_made_where_the_logits_are(dtype):
    logits = torch.randn(3, 1, 500).to(dtype).as_subclass(Elsewhere)
    logits[1, 0, [40, 7]] = 9.0
    expected = logits[:, 0].float().argmax(-1).tolist()
    assert expected[1] == 7
    for settings in ((0.0, None, 1.0), (1.0, 1, 1.0)):
        assert _chosen(logits, settings, 1) == expected
    logits[2, 0, 3] = float("nan")
    with pytest.raises(ValueError, match="not a number"):
        _chosen(logits, (0.0, None, 1.0), 1)


def test_all_tokens_are_sorted_and_not_searched_for_the_largest_before(monkeypatch):
    logits = torch.randn(2, 200).round()  # many are equal
    expected = _chosen(logits, (1.0, 0, 1.0), 3)
    monkeypatch.setattr(torch.Tensor, "topk", None)
    with _way(compiled=False):
        assert _chosen(logits, (1.0, 0, 1.0), 3) == expected


def test_negative_seeds_are_seeds_of_their_own():
    assert Sampling(seed=-5).source().random() != Sampling(seed=5).source().random()


@pytest.mark.parametrize("compiled", [True, False])
def test_choices_have_their_probabilities(compiled):
    weights = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])
    wanted = torch.tensor([0.0, 0.4, 0.0, 0.3, 0.15]) ** 2  # temperature a half, three choices
    source, count = random.Random(5), 4000
    with _way(compiled):
        picks = [Sampling(0.5, 3).choose(weights.log()[None], [source])[0] for _ in range(count)]
    found = torch.bincount(torch.tensor(picks), minlength=5) / count
    assert torch.allclose(found, wanted / wanted.sum(), atol=0.03)
    assert found[0] == found[2] == 0


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("place", [0, 20, 36])
def test_nan_is_said(settings, compiled, place):
    logits = torch.randn(3, 37)
    logits[1, place] = float("nan")
    with _way(compiled):
        with pytest.raises(ValueError, match="not a number"):
            _chosen(logits, settings, 1)
        assert len(_chosen(logits[[0, 2]], settings, 1)) == 2


def test_the_first_of_equals_is_the_likeliest():
    logits = torch.zeros(2, 100)
    logits[0, [40, 70, 71]] = logits[1, [3, 99]] = 2.0
    assert _chosen(logits, (0.0, None, 1.0), 1) == [40, 3]
    assert {_chosen(logits[1:], (1e-9, 1, 1.0), seed)[0] for seed in range(20)} == {3}
    logits[0, 5:] = -9.0  # of five equals two are choices
    assert {_chosen(logits[:1], (1.0, 2, 1.0), seed)[0] for seed in range(50)} == {0, 1}


def test_other_dtypes_and_layouts_are_chosen_from_too():
    logits = torch.randn(64, 6).t()
    expected = logits.argmax(-1).tolist()
    for form in (logits, logits.bfloat16().float(), logits.double()):
        assert _chosen(form, (0.0, None, 1.0), 1) == form.argmax(-1).tolist()
    assert _chosen(logits, (0.0, None, 1.0), 1) == expected


def test_top_p_keeps_the_likeliest_that_reach_it():
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.25, 0.15]]))

    def chosen(top_p):
        picks = Sampling(1.0, 0, 1, top_p)
        source = picks.source()
        return {picks.choose(logits, [source])[0] for _ in range(300)}

    assert chosen(0.0) == chosen(0.5) == {1}
    assert chosen(0.51) == chosen(0.7) == {1, 2}
    assert chosen(0.8) == {1, 2, 3}
    assert chosen(1.0) == {0, 1, 2, 3}


@pytest.mark.parametrize("top_p", [-0.1, 1.1, float("nan")])
def test_top_p_out_of_range(top_p):
    with pytest.raises(ValueError, match="top_p"):
        Sampling(top_p=top_p)


@pytest.mark.parametrize("settings", [{"temperature": 1e300}, {"temperature": math.nan}, {"top_k": 10**30}])
def test_numbers_beyond_all_reason_are_refused(settings):
    with pytest.raises(ValueError, match=r"it must be from"):
        Sampling(**settings)
