"""Whether two models differ, judged in pairs: the same questions, the same conversations. Without torch.

Averages hide what pairs show: a question that both models answer says nothing about which of them is better. Of right
and wrong only the flips count (McNemar's test, exact: under chance each flip goes either way); of losses, the
difference conversation by conversation (a bootstrap of the conversations for its interval, flips of its sign for its
p). Miller, "Adding error bars to evals" (arXiv 2411.00640); Bowyer et al., arXiv 2503.01747; for the number of
questions, Connor, Biometrics 43 (1987) 207.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

LEVEL = 0.05
"""A p below this is called a difference."""
POWER = 0.8
"""The number of questions that is advised finds a difference of the size seen with this probability."""
FEWEST_FLIPS = 6
"""With fewer flips no outcome has p < 0.05, whichever way they all go: 2 * 0.5 ** 5 = 0.0625."""
RESAMPLES = 9999
SEED = 42
_EXACT_UP_TO = 13
"""So many conversations have no more sign flips than RESAMPLES: all are tried."""
_CELLS = 1 << 22
"""Random numbers drawn at once: 32 MiB."""


@dataclass(frozen=True)
class Flips:
    """The same questions asked of two models, this one and the one it is compared with."""

    learnt: list[int]
    """Numbers, from 1, of the questions that this one alone answers."""
    lost: list[int]
    """And of those that the other one alone answers."""
    total: int

    @property
    def p(self) -> float:
        """Two-sided, exact."""
        return mcnemar(len(self.learnt), len(self.lost))

    @property
    def verdict(self) -> str:
        """One sentence."""
        learnt, lost = len(self.learnt), len(self.lost)
        counted = f"{learnt} learnt, {lost} lost"
        if not learnt and not lost:
            return f"{counted}: on {_these(self.total)} there is no difference."
        if self.p < LEVEL:
            return f"{counted}: {'better' if learnt > lost else 'worse'}, and hardly by chance ({_p(self.p)})."
        needed = questions_needed(learnt, lost, self.total)
        advice = f"; about {needed:,} would be needed" if needed else ""
        if needed or learnt + lost < FEWEST_FLIPS:
            return f"{counted}: too few questions to tell ({_p(self.p)}){advice}."
        return f"{counted}: as many one way as the other, so no difference is seen ({_p(self.p)})."


def flips(this: Sequence[bool], other: Sequence[bool]) -> Flips:
    """What each of two models answers alone, from what was right for each question in order."""
    pairs = list(enumerate(zip(this, other, strict=True), start=1))
    return Flips(
        [number for number, (mine, its) in pairs if mine and not its],
        [number for number, (mine, its) in pairs if its and not mine],
        len(pairs),
    )


def mcnemar(learnt: int, lost: int) -> float:
    """The exact two-sided p of McNemar's test: of a fair coin thrown once for each flip."""
    count = learnt + lost
    tail = sum(math.comb(count, k) for k in range(min(learnt, lost) + 1))
    return min(1.0, 2 * tail / 2**count)


def questions_needed(learnt: int, lost: int, total: int) -> int | None:
    """About how many questions would show a difference of this size at LEVEL with POWER; None without a difference."""
    if learnt == lost:
        return None
    flipped, difference = (learnt + lost) / total, abs(learnt - lost) / total
    normal = NormalDist()
    chance = normal.inv_cdf(1 - LEVEL / 2) * math.sqrt(flipped)
    found = normal.inv_cdf(POWER) * math.sqrt(max(0.0, flipped - difference**2))
    by_formula = math.ceil(((chance + found) / difference) ** 2)
    return max(by_formula, math.ceil(FEWEST_FLIPS / flipped), total + 1)


@dataclass(frozen=True)
class Difference:
    """How much lower (negative) or higher this model's mean is than the other one's, over the same conversations."""

    difference: float
    interval: tuple[float, float]
    """95%, of a paired bootstrap over conversations."""
    p: float
    """Two-sided, of random flips of the sign of each conversation's difference."""
    what: str = "loss"
    """What the means are of; lower is better."""

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.difference:
            return f"{self.what.capitalize()}: no difference."
        low, high = self.interval
        size = f"{abs(self.difference):.4f} {'lower' if self.difference < 0 else 'higher'}"
        between = f"95% between {low:+.4f} and {high:+.4f}, {_p(self.p)}"
        if self.p < LEVEL:
            better = "better" if self.difference < 0 else "worse"
            return f"{self.what.capitalize()} {size}: {better}, and hardly by chance ({between})."
        return f"{self.what.capitalize()} {size}, which chance may have done ({between})."


def difference_of(this: np.ndarray, other: np.ndarray, sizes: np.ndarray, what: str = "loss") -> Difference:
    """Of sum(this) / sum(sizes) and sum(other) / sum(sizes); each (N,), one value a conversation.

    A loss is the sum of nats over the tokens of all conversations, so the conversations are drawn with their tokens.
    """
    apart = np.asarray(this, np.float64) - np.asarray(other, np.float64)
    sizes = np.asarray(sizes, np.float64)
    seen = float(apart.sum() / sizes.sum())
    return Difference(seen, bootstrap_interval(apart, sizes), sign_flip_p(apart), what)


def bootstrap_interval(apart: np.ndarray, sizes: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The middle 95% of sum(apart) / sum(sizes) over conversations drawn again with replacement; seeded."""
    generator, count = np.random.default_rng(SEED), len(apart)
    drawn = []
    for rows in _portions(resamples, count):
        places = generator.integers(0, count, (rows, count))
        drawn.append(apart[places].sum(1) / sizes[places].sum(1))
    low, high = np.percentile(np.concatenate(drawn), (2.5, 97.5))
    return float(low), float(high)


def sign_flip_p(apart: np.ndarray, resamples: int = RESAMPLES) -> float:
    """How often flips of the signs of `apart` (N,) give a sum as far from 0.

    Of all flips where they are few, else of random ones, seeded; the observed one counts with these, so p is never 0.
    """
    count = len(apart)
    limit = abs(apart.sum()) * (1 - 1e-12) - 1e-300  # the same sum in another order is as far
    if count <= _EXACT_UP_TO:
        signs = ((np.arange(1 << count)[:, None] >> np.arange(count)) & 1) * 2 - 1
        return float((np.abs(signs @ apart) >= limit).mean())
    generator, as_far = np.random.default_rng(SEED), 0
    for rows in _portions(resamples, count):
        signs = generator.integers(0, 2, (rows, count), dtype=np.int8) * 2 - 1
        as_far += int((np.abs(signs @ apart) >= limit).sum())
    return (as_far + 1) / (resamples + 1)


def _portions(resamples: int, count: int) -> list[int]:
    """`resamples` in pieces of at most _CELLS random numbers."""
    rows = max(1, _CELLS // max(1, count))
    return [min(rows, resamples - start) for start in range(0, resamples, rows)]


def _these(total: int) -> str:
    return "this one question" if total == 1 else f"these {total} questions"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"
