"""What the losses of a training say of its rows: which contradict the rest, teach nothing, or are not learnt."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from nanochat_core.rows.findings import Finding, excerpt, finding
from nanochat_core.rows.row import Row
from nanochat_core.runs.row_losses import RowLosses

KNOWN = 0.1
"""Nats a token at which an answer is known by heart: each token was expected with 90%."""
_MOST_KNOWN = 2000
"""Rows that teach nothing are listed so far, those known best first."""
_MOST_SUSPICIOUS = 0.1
"""Share of the rows that can be suspicious: where more are, nothing is the rule that they break."""
_LEAST_SCORE, _LEAST_FIT = 1.4, 0.7
"""An answer is suspicious from so many deviations on, unless elsewhere it is far less likely."""
_NEAR = 50
"""Rows first seen just before and after, to whose losses a first loss is compared: it falls while the run learns."""
_LEAST_VISITS = 3
"""A row that was seen less often has had no time to be learnt."""


@dataclass(frozen=True)
class FoldLosses:
    """By models that never saw the row, an entry for each answer of the file's rows; nats a token, NaN for unknown."""

    row: np.ndarray
    """int64 (A,): which conversation of the file the answer stands in."""
    base: np.ndarray
    """float64 (A,): before any training,"""
    own: np.ndarray
    """after it, behind its own question,"""
    elsewhere: np.ndarray
    """and behind other questions of the data: the mean."""
    rival: np.ndarray
    """Of the answers of rows with like questions, behind this question, the likeliest;"""
    rival_row: np.ndarray
    """int64 (A,): its row, -1 for none."""
    doubt: np.ndarray
    """1 where no row with a like question answers alike, 0 where all do."""

    @classmethod
    def empty(cls, row: np.ndarray) -> Self:
        """Nothing is known of any answer yet."""
        base, own, elsewhere, rival = (np.full(len(row), np.nan) for _ in range(4))
        return cls(row, base, own, elsewhere, rival, np.full(len(row), -1), np.ones(len(row)))

    def scores(self) -> np.ndarray:
        """float64 (A,): how little each answer fits its question, in standard deviations from the usual.

        Whether it fits other questions as well, whether another answer fits better, and what like rows answer.
        """
        fit = np.log(self.own / self.elsewhere)
        rival = np.nan_to_num(np.log(self.own / self.rival))
        both = fit + 0.5 * rival
        known = np.isfinite(both)
        if not known.any():
            return np.full(len(both), -np.inf)
        spread = max(float(both[known].std()), 0.1)
        by_model = (both - np.median(both[known])) / spread
        return np.where(known, by_model + 2 * (self.doubt - np.median(self.doubt[known])), -np.inf)


def findings_of_folds(rows: Sequence[Row], losses: FoldLosses) -> Iterator[Finding]:
    """Rows whose answers do not fit their questions, as models trained on the other rows see it."""
    scores = losses.scores()
    seen: set[int] = set()
    for place in np.argsort(-scores, kind="stable").tolist():
        number = int(losses.row[place])
        if scores[place] < _LEAST_SCORE or len(seen) >= max(1, _MOST_SUSPICIOUS * len(rows)):
            return
        if number not in seen and losses.own[place] > _LEAST_FIT * losses.elsewhere[place]:
            seen.add(number)
            reason = _misfit(rows, losses, place)
            yield finding("suspicious", [rows[number].line], reason, 0.5 + 0.5 * min(1.0, scores[place] / 3))


def _misfit(rows: Sequence[Row], losses: FoldLosses, place: int) -> str:
    row = rows[int(losses.row[place])]
    turn = row.turns[int((losses.row[:place] == losses.row[place]).sum())]
    own, elsewhere, rival = losses.own[place], losses.elsewhere[place], losses.rival[place]
    reason = (
        f"{excerpt(turn.answer)} after {excerpt(turn.prompt)} surprises a model that learnt the other rows: {own:.2f} "
        f"nats a token, and {elsewhere:.2f} after other questions"
    )
    if losses.rival_row[place] >= 0 and rival < own:
        other = rows[int(losses.rival_row[place])]
        reason += (
            f"; the answer of line {other.line:,}, {excerpt(other.turns[-1].answer)}, it finds likelier ({rival:.2f})"
        )
    return reason + ". It contradicts other rows, or is noise."


def findings_of_run(rows: Sequence[Row], losses: RowLosses) -> Iterator[Finding]:
    """What the run's own record says of its rows."""
    seen = np.flatnonzero(losses.visits > 0)
    if len(seen) < 5:
        return
    first = losses.first[seen] / _local_median(losses.first[seen], losses.first_step[seen])
    last = losses.last[seen]
    usual = max(float(np.median(last)), 0.02)
    is_over = losses.visits[seen] >= _LEAST_VISITS
    is_high = is_over & (last > max(4 * usual, 0.4))
    is_noise = is_high & (first > 1.2)
    for place in np.flatnonzero(is_high).tolist():
        yield _unlearnt(rows[seen[place]], losses, int(seen[place]), usual, first[place] if is_noise[place] else None)
    known = np.flatnonzero(losses.first[seen] < KNOWN)
    for place in known[np.argsort(losses.first[seen][known], kind="stable")][:_MOST_KNOWN].tolist():
        number = int(seen[place])
        reason = (
            f"{excerpt(rows[number].answer)} was already known when it was first met, at step "
            f"{losses.first_step[number]:,}: {losses.first[number]:.3f} nats a token. It teaches nothing new."
        )
        yield finding("nothing_new", [rows[number].line], reason, 1 - losses.first[number] / KNOWN)


def _unlearnt(row: Row, losses: RowLosses, number: int, usual: float, first: float | None) -> Finding:
    visits, last = int(losses.visits[number]), losses.last[number]
    strength = 0.6 + 0.4 * min(1.0, last / (20 * usual))
    seen = f"after {visits} visits it costs {last:.2f} nats a token, where half of the rows are at {usual:.2f} or below"
    if first is None:
        reason = f"{excerpt(row.answer)} was not learnt: {seen}."
        return finding("not_learnt", [row.line], reason, strength)
    reason = (
        f"{excerpt(row.answer)} as the answer to {excerpt(row.prompt)} surprised the model at first "
        f"({losses.first[number]:.2f} nats a token, {first:.1f} times its neighbours') and still does: {seen}. It "
        "contradicts other rows, or is noise."
    )
    return finding("suspicious", [row.line], reason, strength)


def _local_median(first: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """float64 (N,): the median first loss of the rows that were first seen about when each was."""
    order = np.argsort(steps, kind="stable")
    in_order = first[order]
    found = np.empty_like(first)
    for place in range(len(order)):
        near = in_order[max(0, place - _NEAR) : place + _NEAR + 1]
        found[order[place]] = max(float(np.median(near)), 1e-3)
    return found
