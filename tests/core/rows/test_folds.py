"""Folds: answers that were swapped are found by small models that never saw them."""

import pytest

from nanochat_core.rows.review import review
from tests.support.planted import cafe, talk, with_swapped_answers, write


def test_of_ten_swapped_answers_eight_are_among_the_first_fifteen(home, tmp_path):
    talks, wrong = with_swapped_answers(cafe())
    told = []
    found = review(
        write(tmp_path / "data.jsonl", talks), folds=4, report=lambda share, text: told.append((share, text))
    )
    assert len(wrong & {line for one in found.findings[:15] for line in one.lines[:1]}) >= 8
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert any("Fold 4 of 4: step" in text for _, text in told)
    first = next(one for one in found.findings if one.kind == "suspicious")
    assert "nats a token" in first.reason


def test_folds_need_rows(home, tmp_path):
    path = write(tmp_path / "data.jsonl", [talk("a", "b"), talk("c", "d"), talk("e", "f")])
    for folds in (1, 3, -2):
        with pytest.raises(ValueError, match="cannot be done with 3 rows"):
            review(path, folds=folds)


def test_a_file_of_faults_is_not_said_to_have_nothing_to_look_at(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("prompt,completion\nWhen?,At seven.\n")
    with pytest.raises(ValueError, match="no faultless conversation to review: `check` says"):
        review(path)
