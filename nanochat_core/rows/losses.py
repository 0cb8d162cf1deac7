"""What the losses of a training say of its rows: which contradict the rest, teach nothing, or are not learnt."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from nanochat_core.rows.findings import Finding, excerpt, finding
from nanochat_core.rows.neighbours import Answered, Around
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
_LEAST_SLOW = 2.5
"""Medians of all rows that a row's loss was at, between its first visit and its last, when it was hard to learn."""
_MOST_COMPARED = 2000
"""Rows, those learnt slowest, whose answers are compared with those of rows with like questions."""
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
        said = f"the answer of line {other.line:,}, {excerpt(other.answer)},"
        if len(other.turns) > 1:  # which of them is not noted
            said = f"an answer of line {other.line:,}"
        reason += f"; {said} it finds likelier ({rival:.2f})"
    return reason + ". It contradicts other rows, or is noise."


def findings_of_run(rows: Sequence[Row], losses: RowLosses) -> Iterator[Finding]:
    """What the run's own record says of its rows."""
    seen = np.flatnonzero(losses.visits > 0)
    if len(seen) < 5:
        return
    named = set()
    for place, score in _hard(rows, losses):
        named.add(place)
        yield finding("suspicious", [rows[place].line], _hard_words(rows[place], losses, place), 0.5 + score / 6)
    last = losses.last[seen]
    usual = max(float(np.median(last)), 0.02)
    is_high = (losses.visits[seen] >= _LEAST_VISITS) & (last > max(4 * usual, 0.4))
    for place in seen[is_high].tolist():
        if place not in named:
            yield _unlearnt(rows[place], losses, place, usual)
    known = seen[losses.first[seen] < KNOWN]
    for place in known[np.argsort(losses.first[known], kind="stable")][:_MOST_KNOWN].tolist():
        reason = (
            f"{excerpt(rows[place].answer)} was already known when it was first met, at step "
            f"{losses.first_step[place]:,}: {losses.first[place]:.3f} nats a token. It teaches nothing new."
        )
        yield finding("nothing_new", [rows[place].line], reason, 1 - losses.first[place] / KNOWN)


def _hard(rows: Sequence[Row], losses: RowLosses) -> list[tuple[int, float]]:
    """(place, deviations from the usual) of the rows that were learnt slowly and that like rows contradict."""
    places = np.flatnonzero((losses.visits >= _LEAST_VISITS) & (losses.slow > 0))
    if len(places) < 20:
        return []
    slow = np.log(losses.slow[places])
    by_model = (slow - np.median(slow)) / max(float(slow.std()), 0.1)
    asked = np.argsort(-by_model, kind="stable")[:_MOST_COMPARED]
    doubts = _doubts(rows, places[asked].tolist())
    scores = by_model[asked] + 2 * (doubts - np.median(doubts))
    order = np.argsort(-scores, kind="stable")[: max(1, int(_MOST_SUSPICIOUS * len(places)))]
    is_hard = (scores >= _LEAST_SCORE) & (losses.slow[places[asked]] >= _LEAST_SLOW)
    return [(int(places[asked[at]]), float(min(3.0, scores[at]))) for at in order if is_hard[at]]


def _doubts(rows: Sequence[Row], places: Sequence[int]) -> np.ndarray:
    """How far rows with like questions answer otherwise, of each row at these places: of its answers the worst."""
    answers = [Answered(place, turn.prompt, turn.answer) for place, row in enumerate(rows) for turn in row.turns]
    around, of_row = Around(answers), defaultdict(list)
    for number, answer in enumerate(answers):
        of_row[answer.row].append(number)
    return np.array([max(around.doubt(number) for number in of_row[place]) for place in places])


def _hard_words(row: Row, losses: RowLosses, place: int) -> str:
    return (
        f"{excerpt(row.answer)} after {excerpt(row.prompt)} was hard to learn: {losses.first[place]:.2f} nats a token "
        f"at first, {losses.last[place]:.2f} after {losses.visits[place]} visits, and between {losses.slow[place]:.1f} "
        "times the median of all rows. It contradicts other rows, or is noise."
    )


def _unlearnt(row: Row, losses: RowLosses, place: int, usual: float) -> Finding:
    last = losses.last[place]
    reason = (
        f"{excerpt(row.answer)} was not learnt: after {losses.visits[place]} visits it costs {last:.2f} nats a token, "
        f"where half of the rows are at {usual:.2f} or below."
    )
    return finding("not_learnt", [row.line], reason, 0.6 + 0.4 * min(1.0, last / (20 * usual)))
