"""Folds kept in a run: nothing is computed twice, a stop loses no fold, and rows are found again when others change."""

import json

import numpy as np
import pytest

from nanochat_core.rows import folds as folding
from nanochat_core.rows.findings import finding
from nanochat_core.rows.folds import fold_losses
from nanochat_core.rows.kept_folds import KeptFolds, has_folds, keep_folds, kept_folds
from nanochat_core.rows.losses import FoldLosses
from nanochat_core.rows.of_run import both, told_by
from nanochat_core.rows.review import review
from nanochat_core.rows.row import lines_of, read_rows
from tests.e2e.invented import invent_run
from tests.support.folded import made_up, write_twelve
from tests.support.planted import talk, write


class Enough(Exception):
    """The person has pressed Stop."""


@pytest.fixture
def data(home):
    return write_twelve(home)


def told_into(texts: list[str], until: str = "nothing"):
    def report(fraction: float, text: str) -> None:
        texts.append(text)
        if until in text:
            raise Enough

    return report


def as_lists(losses: FoldLosses) -> list[list[float]]:
    return [np.nan_to_num(column, nan=-1).tolist() for column in vars(losses).values()]


def test_a_stop_loses_no_fold_that_is_done_and_nothing_is_computed_twice(data):
    run, texts = invent_run("mine", steps=20, data_path=str(data)), []
    with pytest.raises(Enough):
        fold_losses(data, 2, told_into(texts, until="Fold 2 of 2: step 2"), run=run)
    assert has_folds(run)
    kept = kept_folds(run)
    assert (kept.done, kept.is_whole) == ((0,), False)
    assert 0 < np.isfinite(kept.losses.own).sum() < 12
    texts.clear()
    found = fold_losses(data, 2, told_into(texts), run=run)
    assert not any("Fold 1" in text for text in texts)
    assert any("Fold 2 of 2: step" in text and "left" in text for text in texts)
    assert as_lists(found) == as_lists(fold_losses(data, 2, told_into([])))  # as without a stop
    assert kept_folds(run).is_whole
    other, texts = invent_run("other", steps=20, data_path=str(data)), []
    again = fold_losses(data, 2, told_into(texts), run=other)  # a second run of the same data
    assert texts == ["All folds are done"]
    assert as_lists(again) == as_lists(found)
    assert kept_folds(other).is_whole


def test_another_number_of_folds_or_other_data_is_another_question(data, monkeypatch):
    run = invent_run("mine", steps=20, data_path=str(data))
    fold_losses(data, 2, told_into([]), run=run)
    monkeypatch.setattr(folding, "_judge", lambda *arguments: None)
    for folds, rows in ((3, 12), (2, 11)):
        write(data, [json.loads(line) for line in data.read_text().splitlines()[:rows]])
        texts = []
        fold_losses(data, folds, told_into(texts), run=run)
        assert any("Fold 1" in text for text in texts)


def test_rows_are_found_again_when_others_are_added_changed_and_moved(data):
    run = invent_run("mine", steps=20, data_path=str(data))
    keep_folds(run, made_up(data))
    rows, _ = read_rows(data)
    told = told_by(run, rows, lines_of(data, rows))
    [found] = told.findings
    assert (found.kind, found.lines) == ("suspicious", (4,))
    assert "the answer of line 8" in found.reason
    assert any("has no record of its rows" in note for note in told.notes)  # an invented run has none
    assert told.validating is None
    talks = [json.loads(line) for line in data.read_text().splitlines()]
    write(data, [talk("New?", "It is."), *reversed(talks)])  # the fourth is the tenth now, the eighth the sixth
    rows, _ = read_rows(data)
    told = told_by(run, rows, lines_of(data, rows))
    [found] = told.findings
    assert found.lines == (10,)
    assert "the answer of line 6" in found.reason
    assert any("1 row came or changed" in note for note in told.notes)
    talks[7] = talk("Another one?", "Yes.")
    write(data, talks)
    rows, _ = read_rows(data)
    told = told_by(run, rows, lines_of(data, rows))
    assert not any("line 8" in one.reason for one in told.findings)


def test_what_is_half_done_says_so(data):
    run = invent_run("mine", steps=20, data_path=str(data))
    keep_folds(run, KeptFolds(**{**vars(made_up(data)), "done": (1,)}))
    rows, _ = read_rows(data)
    assert any("1 of 2 folds are done" in note for note in told_by(run, rows, lines_of(data, rows)).notes)


def test_the_review_takes_what_is_kept(data):
    run = invent_run("mine", steps=20, data_path=str(data))
    with pytest.raises(ValueError, match="has no record of its rows"):
        review(data, run.tag)
    keep_folds(run, made_up(data))
    assert ("suspicious", (4,)) in {(one.kind, one.lines) for one in review(data, run.tag).findings}


def test_what_both_say_of_a_row_is_one_finding():
    same = [finding("suspicious", [3], reason, strength) for reason, strength in (("Slow.", 0.5), ("Misfit.", 0.9))]
    other = finding("odd", [3], "Odd.")
    found = both([same[0], other], [same[1]])
    assert [(one.kind, one.reason) for one in found] == [("suspicious", "Slow. Misfit."), ("odd", "Odd.")]
    assert found[0].score == same[1].score


def test_a_file_that_is_none_is_passed_over(data):
    run = invent_run("mine", steps=20, data_path=str(data))
    (run.evals_dir / "folds-abc.json").write_text('{"asked": {"folds": 2}, "rows": []}')
    assert kept_folds(run) is None
