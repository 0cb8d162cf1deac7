"""What losses say of rows, on records that are made up: hard to learn, not learnt, known already."""

import numpy as np

from nanochat_core.rows.losses import FoldLosses, findings_of_folds, findings_of_run
from nanochat_core.rows.row import Row, Turn, row_of
from nanochat_core.runs import row_losses
from tests.support.planted import cafe


def _rows(count: int = 40):
    single = [one for one in cafe() if len(one["messages"]) == 2]
    return [row_of(line, one["messages"]) for line, one in enumerate(single[:count], 1)]


def _recorded(path, losses: dict[int, list[float]], count: int = 40):
    """Every row is at 4, 1, 0.2, 0.05 nats a token at its visits, unless it is named."""
    row_losses.begin(path, count, [])
    for visit, usual in enumerate((4.0, 1.0, 0.2, 0.05)):
        own = [(row, 10 * losses.get(row, [usual] * 4)[visit], 10) for row in range(count)]
        row_losses.note(path, visit + 1, own)
    return row_losses.read(path)


def test_each_row_is_named_for_what_its_losses_were(tmp_path):
    rows = _rows()
    record = _recorded(tmp_path / "rows.jsonl", {3: [6, 5, 4, 0.1], 7: [4, 1, 0.3, 2.5], 9: [0.01, 0.01, 0.01, 0.01]})
    found = {(one.kind, one.lines) for one in findings_of_run(rows, record)}
    assert ("suspicious", (4,)) in found
    assert ("not_learnt", (8,)) in found or ("suspicious", (8,)) in found
    assert ("nothing_new", (10,)) in found
    assert {lines[0] for _, lines in found} == {4, 8, 10}


def test_a_record_of_a_single_epoch_accuses_nobody(tmp_path):
    path = tmp_path / "rows.jsonl"
    row_losses.begin(path, 40, [])
    row_losses.note(path, 1, [(row, 30.0 + row, 10) for row in range(40)])
    assert not list(findings_of_run(_rows(), row_losses.read(path)))


def test_an_answer_that_fits_other_questions_as_well_is_suspicious_and_its_rival_is_named():
    rows = _rows()
    losses = FoldLosses.empty(np.arange(40))
    losses.own[:], losses.elsewhere[:], losses.rival[:], losses.doubt[:] = 0.5, 4.0, 3.0, 0.3
    losses.base[:] = 5.0
    losses.own[5], losses.rival[5], losses.rival_row[5], losses.doubt[5] = 4.2, 0.6, 11, 0.98
    (only,) = findings_of_folds(rows, losses)
    assert only.lines == (6,)
    assert "4.20 nats a token" in only.reason
    assert "the answer of line 12" in only.reason
    assert "it finds likelier (0.60)" in only.reason


def test_of_a_rival_row_with_several_answers_none_is_quoted_as_the_likelier_one():
    rows = _rows()
    rows[11] = Row(12, (*rows[11].turns, Turn("", "And then?", "Something else.")))
    losses = FoldLosses.empty(np.arange(40))
    losses.own[:], losses.elsewhere[:], losses.rival[:], losses.doubt[:] = 0.5, 4.0, 3.0, 0.3
    losses.own[5], losses.rival[5], losses.rival_row[5], losses.doubt[5] = 4.2, 0.6, 11, 0.98
    (only,) = findings_of_folds(rows, losses)
    assert "; an answer of line 12 it finds likelier (0.60)." in only.reason


def test_answers_that_could_not_be_judged_are_passed_over():
    losses = FoldLosses.empty(np.arange(40))
    assert not list(findings_of_folds(_rows(), losses))
