"""The same questions before and after: what is printed and what is kept."""

import json
from dataclasses import replace

import pytest

from nanochat_core import FinetuneConfig, Run, finetune
from nanochat_core.evaluation.proof import flips_of
from tests.support.tiny import install_tiny_model, write_conversations


def _config(home, **changes) -> FinetuneConfig:
    install_tiny_model(home)
    data = write_conversations(home / "data.jsonl", 20)
    settings = {"model_tag": "tiny", "dtype": "float32", "num_iterations": 60, "init_lr_frac": 1.0, "eval_every": 60}
    settings["split"] = "tail"
    return FinetuneConfig(str(data), **{**settings, **changes})


def test_questions_are_asked_before_and_after(home):
    questions = home / "questions.jsonl"
    learned = {"question": "Which word is number 2?", "expected": ["Word 2 is and."], "match": "exact"}
    never = {"question": "Which word is number 3? please please please", "expected": ["xyzzy"]}
    questions.write_text(json.dumps(learned) + "\n" + json.dumps(never) + "\n")
    run = finetune(_config(home, questions_path=str(questions)))
    before, after = (json.loads((run.evals_dir / f"{name}.json").read_text()) for name in ("before", "after"))
    assert (before["new"]["correct"], before["new"]["total"]) == (0, 2)
    assert after["new"]["total"] == 2
    assert after["old"] is None  # the base is no starter
    log = run.log_tail(100)
    assert f"New questions answered: 0 of 2 before, {after['new']['correct']} after." in log
    assert f"  {flips_of(after['new'], before['new']).verdict}" in log
    assert "Question: Which word is number 2?" in log
    assert "Old skills" not in log


@pytest.mark.parametrize("left", [None, "{ cut short"])
def test_a_resumed_model_is_not_asked_as_the_one_before(home, monkeypatch, left):
    config = _config(home, num_iterations=6)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 3)
        run = finetune(config)
    before = run.evals_dir / "before.json"
    before.unlink()
    if left is not None:
        before.write_text(left)
    assert finetune(replace(config, resume=True)).status().state == "finished"
    assert (before.read_text() if before.exists() else None) == left
    assert (run.evals_dir / "after.json").exists()


def test_without_questions_the_validations_first_ones_are_shown(home):
    run = finetune(_config(home, num_iterations=2))
    after = json.loads((run.evals_dir / "after.json").read_text())
    assert after["new"] is None
    assert after["replies"][0][0].startswith("Which word is number 18?")  # the tail of the file
    assert "New questions" not in run.log_tail(100)


def test_a_faulty_questions_file_is_refused_before_training(home):
    questions = home / "questions.jsonl"
    questions.write_text('{"question": "a"}\n')
    with pytest.raises(ValueError, match=r"questions\.jsonl, line 1"):
        finetune(_config(home, questions_path=str(questions)))
