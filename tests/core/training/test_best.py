"""Validations: the distance from the base, what makes a checkpoint the best, and a run that ends early."""

import json

import pytest

from nanochat_core import FinetuneConfig, finetune
from nanochat_core.config import starter_preset
from nanochat_core.runs.distance import distance_words
from nanochat_core.training.saving import Progress
from nanochat_core.training.trainer import Trainer
from tests.support.short_training import changed, short_training
from tests.support.tiny import write_conversations


@pytest.fixture
def config(home):
    return short_training(home)


def _validations(run):
    return run.metrics().dropna(subset=["val_loss"])


def test_every_validation_tells_the_distance_from_the_base(config):
    run = finetune(config)
    distances = _validations(run)["kl_from_base"].tolist()
    assert len(distances) == 5
    assert distances[0] == 0.0
    assert all(distance > 0.01 for distance in distances[1:])
    assert f"{distances[-1]:.4f} nats from the base" in run.log_tail(100)


def test_a_run_without_changes_stays_where_it_is_and_stops_early(config):
    rates = dict.fromkeys(("matrix_lr", "embedding_lr", "unembedding_lr"), 0.0)
    run = finetune(changed(config, eval_every=2, early_stop=3, **rates))
    assert set(_validations(run)["kl_from_base"]) == {0.0}
    status = run.status()
    assert (status.state, status.step, status.steps, status.best_step) == ("finished", 8, 8, 2)
    assert "Stopped early at step 8 of 20: 3 validations without a better checkpoint." in run.log_tail(100)


def test_a_run_that_died_after_its_early_stop_makes_no_further_step(config, monkeypatch):
    def dies(*_):
        raise RuntimeError("the power went")

    rates = dict.fromkeys(("matrix_lr", "embedding_lr", "unembedding_lr"), 0.0)
    settings = changed(config, eval_every=2, early_stop=3, save_every=2, **rates)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_end", dies)
        with pytest.raises(RuntimeError, match="power"):
            finetune(settings)
    status = finetune(changed(settings, resume=True)).status()
    assert (status.state, status.step) == ("finished", 8)


def test_a_tenth_of_the_run_passes_between_validations(config):
    run = finetune(changed(config, eval_every=-1))
    assert _validations(run)["step"].tolist() == list(range(0, 21, 2))
    assert starter_preset()["eval_every"] == -1


def test_the_best_is_the_one_that_answers_most_and_of_these_the_lowest_loss():
    progress = Progress()
    best = []
    for step, (loss, correct) in enumerate([(3.0, 1), (2.0, 0), (2.5, 1), (4.0, 2), (1.0, 1)], start=1):
        progress.step = step
        progress.note_validation(loss, correct)
        best.append((progress.best_step, progress.without_better))
    assert best == [(1, 0), (1, 1), (3, 0), (4, 0), (4, 1)]
    assert (progress.best_val_loss, progress.best_correct) == (4.0, 2)


def test_questions_decide_which_checkpoint_is_the_best(config, home):
    rows = [{"question": f"Which word is number {n}?", "expected": ["Word"], "match": "starts-with"} for n in range(4)]
    path = home / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    run = finetune(changed(config, questions_path=str(path), best_by="questions", num_epochs=15))
    table = _validations(run)
    answered = table["questions_correct"].astype(int).tolist()
    assert answered[0] == 0
    best = max(answered[1:])
    assert best > 0
    rows = table[(table["questions_correct"] == best) & (table["step"] > 0)]
    assert run.status().best_step == rows.loc[rows["val_loss"].idxmin(), "step"]
    assert f"{best} questions answered" in run.log_tail(100)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"best_by": "luck"}, "use loss or questions"),
        ({"best_by": "questions"}, "without a questions_path"),
        ({"early_stop": -1}, "0 or more"),
        ({"eval_every": 0}, "at least 1, or -1"),
    ],
)
def test_settings_that_cannot_work_are_refused(home, settings, said):
    with pytest.raises(ValueError, match=said):
        FinetuneConfig(str(write_conversations(home / "d.jsonl")), **settings)


def test_the_sentence_tells_the_factor_on_the_bases_words():
    assert "0.693 nats per token" in distance_words(0.6931)
    assert "50% of the probability" in distance_words(0.6931)
    assert "100% of" in distance_words(0.0)
    assert "0.0001% of" in distance_words(13.8)
