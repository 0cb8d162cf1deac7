"""A finetuned starter: its replies lead back to the rows that taught them, and its record to rows that are wrong."""

import os

import pytest

from nanochat_core import Engine, finetune, load_model, with_preset
from nanochat_core.rows.record import found_again
from nanochat_core.rows.review import review
from nanochat_core.rows.row import read_rows
from nanochat_core.rows.trace import trace, trained_rows
from tests.support.planted import cafe, talk, with_swapped_answers, write


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """(run, data file, lines whose answers were swapped); its home stays set for this file's tests."""
    folder = tmp_path_factory.mktemp("tuned")
    before = os.environ.get("NANOCHAT_STUDIO_HOME")
    os.environ["NANOCHAT_STUDIO_HOME"] = str(folder)
    talks, wrong = with_swapped_answers(cafe())
    data = write(folder / "data.jsonl", talks)
    settings = {"replay_ratio": 0.0, "num_epochs": 8, "eval_every": 1000, "eval_steps": 1}
    yield finetune(with_preset(data_path=str(data), model_tag="starter", output_tag="tuned", **settings)), data, wrong
    os.environ.pop("NANOCHAT_STUDIO_HOME")
    if before is not None:
        os.environ["NANOCHAT_STUDIO_HOME"] = before


def test_of_fifty_replies_the_right_row_is_among_the_first_three_in_forty_five(tuned):
    run, data, wrong = tuned
    rows, _ = read_rows(data)
    model, tokenizer, _ = load_model("finetuned/tuned", device="cpu")
    engine = Engine(model, tokenizer)
    held = {row.line for row in rows} - _trained(run)
    asked = [row for row in rows if len(row.turns) == 1 and row.line not in wrong | held][:50]
    assert len(asked) == 50
    found = alike = 0
    for row in asked:
        prompt = row.turns[0].prompt
        reply = "".join(engine.stream([{"role": "user", "content": prompt}], max_tokens=40, temperature=0.0))
        found += row.line in trace(run.tag, reply, prompt).lines[:3]
        same = {other.line for other in rows if other.answer == row.answer}
        alike += bool(same & set(trace(run.tag, reply).lines[:3]))
    assert found >= 45, (found, alike)
    assert alike >= 45, (found, alike)


def _trained(run) -> set[int]:
    return {row.line for row in trained_rows(run)}


def test_no_row_that_validates_is_said_to_have_taught(tuned):
    run, data, _ = tuned
    rows, _ = read_rows(data)
    trained = _trained(run)
    assert len(trained) == 180
    for row in rows:
        assert row.line in trained or row.line not in trace(run.tag, row.answer, row.prompt).lines


def test_the_record_of_the_run_names_wrong_rows(tuned):
    run, data, wrong = tuned
    found = review(data, run=run.tag)
    assert not found.notes
    hits = wrong & {line for one in found.findings[:15] for line in one.lines[:1]}
    assert len(hits) >= 8, (hits, found.summary())


def test_of_equal_rows_one_may_validate_and_the_other_train():
    assert found_again(["b", "a", "c", "b", "b"], ["a", "b", "b"]) == [1, 0, -1, 2, 2]


def test_the_record_follows_the_rows_when_lines_move(tuned, tmp_path):
    run, data, _ = tuned
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    moved = tmp_path / "moved.jsonl"
    moved.write_text(lines[0].replace("?", "??", 1) + "".join(reversed(lines[1:])), encoding="utf-8")
    found = review(moved, run=run.tag)
    assert found.notes == ("1 row came or changed after run 'tuned': it says nothing of them.",)
    other = write(tmp_path / "other.jsonl", [talk("a", "b")])
    with pytest.raises(ValueError, match="trained on none of these rows"):
        review(other, run=run.tag)
