"""Every hard case of data: too few conversations, too long ones, nothing to learn, and replay."""

import json

import pytest

from nanochat_core import finetune
from nanochat_core.trainer import Trainer
from tests.short_training import changed, short_training
from tests.tiny import write_conversations


@pytest.fixture
def config(home):
    return short_training(home)


def _file(home, texts: list[tuple[str, str]]) -> str:
    lines = [
        {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]}
        for user, reply in texts
    ]
    path = home / "hard.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_one_conversation_is_refused(config, home):
    with pytest.raises(ValueError, match="at least 2"):
        finetune(changed(config, data_path=_file(home, [("a", "b")])))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_conversations_train_with_the_true_numbers(config, home, count):
    data = _file(home, [(f"question {i}", f"reply {i}") for i in range(count)])
    run = finetune(changed(config, data_path=data, num_epochs=2))
    metrics = run.metrics()
    assert run.status().steps == 2
    assert metrics["val_loss"].notna().sum() == 2
    assert metrics["train_loss"].count() == 2
    assert f"{count - 1} to train on" in run.log_tail(100)


def test_all_longer_than_the_context_train_on_what_is_left(config, home):
    data = _file(home, [(f"question {i}", "a long reply " * 50) for i in range(6)])
    run = finetune(changed(config, data_path=data, num_epochs=1, max_seq_len=64))
    assert run.status().state == "finished"
    assert "6 conversations are longer than 64 tokens" in run.log_tail(100)


def test_conversations_whose_replies_are_cut_off_are_left_out_and_said(config, home):
    data = _file(home, [("long question " * 50, "never seen"), *[(f"question {i}", "reply") for i in range(5)]])
    run = finetune(changed(config, data_path=data, num_epochs=1, max_seq_len=64))
    assert "1 conversations have nothing to learn" in run.log_tail(100)
    assert "4 to train on, and the last 1" in run.log_tail(100)
    assert run.metrics()["train_loss"].notna().any()


def test_nothing_to_learn_at_all_is_refused(config, home):
    data = _file(home, [("long question " * 50, "never seen")] * 4)
    with pytest.raises(ValueError, match="None of the 4 conversations"):
        finetune(changed(config, data_path=data, max_seq_len=64))


def test_replay_mixes_general_conversations_in(config, home, monkeypatch):
    replay = write_conversations(home / "general.jsonl", 50)
    seen = []
    step = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda self, e: (seen.append(len(e)), step(self, e)))
    run = finetune(changed(config, replay_path=str(replay), replay_ratio=1.0, num_epochs=2))
    assert sum(seen) == 2 * 62
    assert "Replay: 31 of 50" in run.log_tail(100)
