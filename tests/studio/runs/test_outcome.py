"""What a run has gained and lost: the sentence after its end, and what is left out where it was not measured."""

import json

import pytest

from nanochat_core.runs.run import Run
from studio.runs import live
from studio.runs.outcome import Outcome, outcome_of
from tests.e2e.invented import invent_run
from tests.support.small_cafe import write_cafe, write_snapshots


def snapshot(run: Run, name: str, verdicts: list[bool], old: int) -> None:
    answers = [{"question": f"{number}?", "correct": correct} for number, correct in enumerate(verdicts)]
    new = {"correct": sum(verdicts), "total": len(verdicts), "answers": answers}
    values = {"replies": [], "new": new, "old": {"correct": old, "total": 500}}
    (run.evals_dir / f"{name}.json").write_text(json.dumps(values))


def test_what_was_learnt_and_lost_is_counted_in_pairs(home):
    run = invent_run("mine")
    snapshot(run, "before", [False] * 8 + [True, True], 471)
    snapshot(run, "after", [True] * 7 + [False, True, False], 460)
    found = outcome_of(run)
    assert (found.questions, found.learnt, found.lost) == (10, 7, 1)
    assert found.kept == pytest.approx(460 / 471)
    sentence = found.sentence()
    assert sentence.startswith("7 learnt, 1 lost of 10 questions; 98% of the old skills kept; loss 3.15 → ")
    assert sentence in live.look("mine").status


def test_the_sentence_is_of_the_questions_as_they_are_today(home):
    path = write_cafe(home)
    run = invent_run("cafe", data_path=str(path), questions_path=str(path).replace("_data", "_questions"))
    write_snapshots(run)
    assert outcome_of(run).sentence().startswith("7 learnt, 1 lost of 8 questions;")
    assert "7 learnt, 1 lost of 8 questions" in live.look("cafe").status
    file = path.with_name("cafe_questions.jsonl")
    lines = file.read_text().splitlines()
    lines[0] = lines[0].replace("7 am", "8 am")  # another rule: the kept reply is wrong by it
    lines[1] = lines[1].replace("Who owns the cafe?", "Who owns it?")  # another prompt: no reply
    file.write_text("\n".join([*lines, '{"question": "Is there cake?", "expected": ["yes"]}']) + "\n")
    found = outcome_of(run)
    assert (found.questions, found.learnt, found.lost) == (7, 5, 1)
    assert found.unasked == ("Who owns it?", "Is there cake?")
    assert "2 new or reworded questions have no reply yet" in live.look("cafe").status


def test_the_figures_of_the_example():
    told = Outcome(30, 26, 0, 0.977, (8.9070, 0.3303)).sentence()
    assert told == "26 learnt, 0 lost of 30 questions; 98% of the old skills kept; loss 8.9 → 0.33"


def test_what_was_not_measured_is_left_out(home):
    run = invent_run("mine", "stopped", 20, 0)
    for path in run.evals_dir.iterdir():
        path.unlink()
    assert outcome_of(run).sentence() == ""
    (run.evals_dir / "before.json").write_text("[broken")
    assert outcome_of(run) == Outcome()


def test_only_a_run_that_left_a_model_offers_what_to_do_with_it(home):
    assert not live.look(invent_run("mine", "finished", 20).tag).has_model
    run = invent_run("other", "finished", 20)
    (run.path / "model_000020.pt").write_bytes(b"")
    (run.path / "meta_000020.json").write_bytes(b"{}")
    assert live.look("other").has_model
