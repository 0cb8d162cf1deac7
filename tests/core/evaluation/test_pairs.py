"""Paired tests: against scipy and against plain enumeration, and what their sentences claim."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nanochat_core.evaluation.pairs import (
    RESAMPLES,
    SEED,
    Difference,
    Flips,
    bootstrap_interval,
    difference_of,
    flips,
    mcnemar,
    questions_needed,
    sign_flip_p,
)


@pytest.mark.parametrize("learnt", range(0, 25, 3))
@pytest.mark.parametrize("lost", range(0, 25, 4))
def test_mcnemar_is_the_exact_binomial_test_of_the_flips(learnt, lost):
    expected = stats.binomtest(learnt, learnt + lost).pvalue if learnt + lost else 1.0
    assert mcnemar(learnt, lost) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_is_what_throwing_coins_gives():
    thrown = [sum(coins) for coins in itertools.product((0, 1), repeat=8)]
    as_rare = sum(min(heads, 8 - heads) <= 1 for heads in thrown) / len(thrown)
    assert mcnemar(7, 1) == as_rare == mcnemar(1, 7)


def test_the_flips_are_counted_from_one():
    found = flips([True, True, False, False], [True, False, True, False])
    assert (found.learnt, found.lost, found.total) == ([2], [3], 4)


@pytest.mark.parametrize("learnt", range(6))
def test_with_five_flips_there_are_too_few_questions_to_tell(learnt):
    found = Flips(list(range(learnt)), list(range(learnt, 5)), 30)
    assert found.p > 0.05
    assert "too few questions to tell" in found.verdict
    assert f"{learnt} learnt, {5 - learnt} lost" in found.verdict


def test_the_sentence_says_which_way_and_how_sure():
    assert Flips(list(range(26)), [], 30).verdict == "26 learnt, 0 lost: better, and hardly by chance (p < 0.001)."
    assert "worse, and hardly by chance (p = 0.021)" in Flips([1], list(range(9)), 30).verdict
    assert Flips([], [], 1).verdict == "0 learnt, 0 lost: on this one question there is no difference."
    assert Flips([], [], 30).verdict == "0 learnt, 0 lost: on these 30 questions there is no difference."
    many = Flips(list(range(20)), list(range(20)), 60).verdict
    assert "too few" not in many
    assert "no difference is seen (p = 1)" in many
    few = Flips(list(range(7)), [1], 30)
    assert few.verdict == "7 learnt, 1 lost: too few questions to tell (p = 0.07); about 50 would be needed."


@pytest.mark.parametrize(("learnt", "lost", "total"), [(7, 1, 30), (5, 0, 30), (3, 2, 40), (30, 20, 400)])
def test_so_many_questions_find_such_a_difference_four_times_of_five(learnt, lost, total):
    needed = questions_needed(learnt, lost, total)
    draws = np.random.default_rng(0).multinomial(
        needed, [learnt / total, lost / total, 1 - (learnt + lost) / total], 4000
    )
    found = np.mean([mcnemar(int(a), int(b)) < 0.05 for a, b, _ in draws])
    assert 0.68 < found < 0.9  # the formula is for large numbers, and the exact test is a little stricter
    assert questions_needed(4, 4, 30) is None


def test_few_conversations_are_tried_with_all_signs():
    apart = np.random.default_rng(3).normal(0.3, 1, 9)
    sums = [abs(sum(sign * one for sign, one in zip(signs, apart))) for signs in itertools.product((1, -1), repeat=9)]
    expected = sum(one >= abs(apart.sum()) - 1e-12 for one in sums) / 2**9
    assert sign_flip_p(apart) == expected
    exact = stats.permutation_test(
        (apart, np.zeros(9)), lambda a, b, axis: (a - b).sum(axis), permutation_type="samples", vectorized=True
    )
    assert sign_flip_p(apart) == pytest.approx(exact.pvalue, rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_many_conversations_are_tried_with_random_signs_as_scipy_does(shift):
    apart = np.random.default_rng(4).normal(shift, 1, 80)
    drawn = stats.permutation_test(
        (apart, np.zeros(80)),
        lambda a, b, axis: (a - b).sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(7),
    )
    assert sign_flip_p(apart) == pytest.approx(drawn.pvalue, abs=4 * math.sqrt(0.25 / RESAMPLES))
    assert sign_flip_p(apart) == sign_flip_p(apart) >= 1 / (RESAMPLES + 1)


def test_the_interval_is_scipys_paired_bootstrap():
    generator = np.random.default_rng(5)
    apart, sizes = generator.normal(-0.2, 1, 60) * 10, generator.integers(3, 40, 60).astype(float)
    theirs = stats.bootstrap(
        (apart, sizes),
        lambda a, n, axis: a.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    assert bootstrap_interval(apart, sizes) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_the_interval_is_the_same_in_however_many_pieces_it_is_drawn(monkeypatch):
    apart, sizes = np.arange(50.0) - 20, np.arange(1.0, 51)
    whole = bootstrap_interval(apart, sizes), sign_flip_p(apart)
    monkeypatch.setattr("nanochat_core.evaluation.pairs._CELLS", 1000)
    assert (bootstrap_interval(apart, sizes), sign_flip_p(apart)) == whole


def test_a_difference_is_that_of_the_means_over_all_tokens():
    this, other, sizes = np.array([2.0, 30.0]), np.array([4.0, 40.0]), np.array([2, 10])
    found = difference_of(this, other, sizes)
    assert found.difference == pytest.approx(this.sum() / 12 - other.sum() / 12)
    assert found.p == 0.5  # both signs alike, or not
    assert "which chance may have done" in found.verdict
    assert difference_of(this, this, sizes).verdict == "Loss: no difference."
    sure = Difference(-0.5, (-0.7, -0.3), 0.0001)
    assert (
        sure.verdict == "Loss 0.5000 lower: better, and hardly by chance (95% between -0.7000 and -0.3000, p < 0.001)."
    )
