"""Every hard case of data: too few conversations, too long ones, nothing to learn, and replay."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from nanochat_core import finetune
from nanochat_core.data import reader, survey
from nanochat_core.data import workers as data_workers
from nanochat_core.runs.run import Run
from nanochat_core.training.trainer import Trainer
from tests.support.short_training import changed, short_training
from tests.support.tiny import write_conversations


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
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, e: (seen.append(len(e)), step(self, e)))
    run = finetune(changed(config, replay_path=str(replay), replay_ratio=1.0, num_epochs=2))
    assert sum(seen) == 2 * 62
    assert "Replay: 31 of 50" in run.log_tail(100)


def test_a_replay_file_that_changed_or_has_nothing_to_replay_is_refused(config, home):
    replay = write_conversations(home / "general.jsonl", 9)
    settings = changed(config, replay_path=str(replay), replay_ratio=1.0, num_iterations=2)
    run = finetune(settings)
    run.write_status(state="stopped")
    replay.write_text(replay.read_text().replace("a", "o"))
    with pytest.raises(ValueError, match=r"The replay file .*general.jsonl is gone or has changed"):
        finetune(changed(settings, resume=True))
    Path(_file(home, [("long question " * 50, "never seen")] * 4)).rename(replay)
    with pytest.raises(ValueError, match=r"Nothing in .*general.jsonl can be replayed.* within 64 tokens"):
        finetune(changed(settings, max_seq_len=64, output_tag="other"))


ASK = {"file": lambda: Run.open("straight").request_stop(), "signal": lambda: os.kill(os.getpid(), signal.SIGTERM)}


@pytest.mark.processes
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_a_stop_while_the_data_is_read_ends_the_reading(config, cached, monkeypatch, ask, workers):
    blocks, processes, add, start = [], [], survey._Tally.add, subprocess.Popen

    def asked_at_the_third(tally, block):
        blocks.append(block)
        add(tally, block)
        if len(blocks) == 3:
            ask()

    def noted(*arguments, **named):
        processes.append(start(*arguments, **named))
        return processes[-1]

    with monkeypatch.context() as patch:
        patch.setattr(reader, "BLOCK_BYTES", 200)
        patch.setattr(survey, "useful_workers", lambda size: workers)
        patch.setattr(survey._Tally, "add", asked_at_the_third)
        patch.setattr(data_workers.subprocess, "Popen", noted)
        run = finetune(config)
    assert len(blocks) == 3
    assert (run.status().state, run.status().step) == ("stopped", 0)
    assert run.status().doing is None
    assert "Stopped before the training began" in run.log_tail()
    assert len([process for process in processes if "nanochat_core.data.workers" in process.args]) == workers
    assert all(process.poll() is not None for process in processes)
    assert list(cached.iterdir()) == []
    assert finetune(changed(config, resume=True)).status().step == 20


def test_a_stop_before_data_that_needs_no_reading_ends_the_run_too(config, cached, monkeypatch):
    finetune(changed(config, output_tag="first", num_iterations=1))
    assert len(list(cached.iterdir())) == 1
    monkeypatch.setattr(Run, "stop_requested", lambda run: True)
    run = finetune(config)
    assert (run.status().state, run.metrics().empty) == ("stopped", True)
