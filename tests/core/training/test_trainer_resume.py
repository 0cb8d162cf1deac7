"""Stopping and killing a run lose nothing: resumed, it equals one that went straight on."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat_core import Run, finetune
from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.training.trainer import Trainer
from tests.support.short_training import changed, short_training

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(home):
    return short_training(home)


def _final_state(run: Run, step: int) -> dict:
    return torch.load(run.resume_dir / f"state_{step:06d}.pt", weights_only=True)


def _assert_same(a, b) -> None:
    """Equal to the last bit, through lists, tables and tensors."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            if key != "seconds":
                _assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b):
            _assert_same(one, other)
    else:
        assert a == b


def _assert_same_runs(one: Run, other: Run, step: int = 20) -> None:
    _assert_same(
        read_weights(one.path / f"model_{step:06d}.pt"),
        read_weights(other.path / f"model_{step:06d}.pt"),
    )
    _assert_same(_final_state(one, step)["optimizers"], _final_state(other, step)["optimizers"])
    _assert_same(_final_state(one, step)["exact"], _final_state(other, step)["exact"])
    columns = ["step", "train_loss", "val_loss", "tokens"]
    first, second = (run.metrics()[columns].astype(float).fillna(-1).values.tolist() for run in (one, other))
    assert first == second  # the losses of every step: the same examples in the same order


def test_stop_and_resume_equals_straight_on(config, monkeypatch):
    straight = finetune(config)
    stopped = changed(config, output_tag="stopped")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(stopped)
    assert (run.status().state, run.status().step) == ("stopped", 10)
    run.request_stop()  # left from before: must not stop the resumed run
    run = finetune(changed(stopped, resume=True))
    assert run.status().state == "finished"
    _assert_same_runs(straight, run)


def test_kill_and_resume_equals_straight_on(config):
    straight = finetune(config)
    killed = changed(config, output_tag="killed")
    script = (
        "import os, signal, sys, json; from nanochat_core.training.recorder import Recorder\n"
        "from nanochat_core import FinetuneConfig, finetune\n"
        "note = Recorder.note_step\n"
        "def kill(self, setup, progress, *args):\n"
        "    note(self, setup, progress, *args)\n"
        "    if progress.step == 12: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Recorder.note_step = kill\n"
        "finetune(FinetuneConfig.from_dict(json.loads(sys.argv[1])))\n"
    )
    process = subprocess.run([sys.executable, "-c", script, json.dumps(killed.to_dict())], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    run = Run.open("killed")
    assert run.status().state == "interrupted"
    assert run.metrics()["step"].max() == 12
    finetune(changed(killed, resume=True))
    _assert_same_runs(straight, run)


def test_killed_before_any_checkpoint_begins_anew(config, monkeypatch):
    straight = finetune(config)
    other = changed(config, output_tag="early")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_is_due", lambda self, is_validated: 1 / 0 if self.progress.step == 3 else False)
        with pytest.raises(ZeroDivisionError):
            finetune(other)
    assert Run.open("early").status().state == "failed"
    finetune(changed(other, resume=True))
    _assert_same_runs(straight, Run.open("early"))


def test_sigterm_saves_and_stops(config):
    script = (
        "import os, signal, sys, json; from nanochat_core.training.trainer import Trainer\n"
        "from nanochat_core.__main__ import main\n"
        "step = Trainer.step\n"
        "def term(self, examples):\n"
        "    step(self, examples)\n"
        "    if self.progress.step == 7: os.kill(os.getpid(), signal.SIGTERM)\n"
        "Trainer.step = term\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    flags = [f"--{name}={value}" for name, value in config.to_dict().items() if value not in (None, False)]
    process = subprocess.run([sys.executable, "-c", script, "finetune", *flags], cwd=ROOT, check=False)
    assert process.returncode == 0
    run = Run.open("straight")
    assert (run.status().state, run.status().step) == ("stopped", 7)
    assert (run.path / "model_000007.pt").is_file()


def test_a_finished_run_or_one_without_its_state_is_not_resumed(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(config)
    metrics = run.metrics_file.read_bytes()
    shutil.rmtree(run.resume_dir)
    with pytest.raises(ValueError, match="resume/ is gone"):
        finetune(changed(config, resume=True))
    assert run.metrics_file.read_bytes() == metrics
    finished = finetune(changed(config, output_tag="finished"))
    with pytest.raises(ValueError, match="has finished"):
        finetune(changed(config, output_tag="finished", resume=True))
    assert finished.status().state == "finished"


def test_resuming_removes_what_a_kill_left_half_written(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(config)
    (run.path / ".model_000015.pt.abc.tmp").write_bytes(b"half")
    (run.resume_dir / ".state_000015.pt.abc.tmp").write_bytes(b"half")
    for name in ("model_{}.pt", "meta_{}.json"):  # saved, but killed before its state was
        shutil.copy(run.path / name.format("000010"), run.path / name.format("000012"))
    finetune(changed(config, resume=True))
    assert not list(run.path.rglob("*.tmp"))
    assert not (run.path / "model_000012.pt").exists()


def test_changed_data_is_not_resumed_on(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        finetune(config)
    with open(config.data_path, "a") as file:
        file.write('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    with pytest.raises(ValueError, match="has changed"):
        finetune(changed(config, resume=True))
