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

pytestmark = pytest.mark.processes

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
    columns = ["step", "train_loss", "val_loss", "kl_from_base", "tokens"]
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


def test_corrections_are_resumed_with_the_reference_of_the_beginning(config, monkeypatch):
    data = Path(config.data_path)
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    for row in rows[::2]:
        row["messages"][-1]["rejected"] = "No."
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = changed(config, learn_from_corrections=True)
    straight = finetune(config)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        stopped = finetune(changed(config, output_tag="stopped"))
    reference = stopped.resume_dir / "reference.json"
    away = reference.rename(reference.with_suffix(".away"))
    with pytest.raises(ValueError, match=r"reference\.json is gone or damaged\. It cannot be resumed from"):
        finetune(changed(config, output_tag="stopped", resume=True))
    away.rename(reference)
    resumed = finetune(changed(config, output_tag="stopped", resume=True))
    _assert_same_runs(straight, resumed)
    pairs = [run.metrics()["preference_loss"].dropna().tolist() for run in (straight, resumed)]
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) == 20


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


def test_killed_before_any_checkpoint_starts_over_and_says_so(config, monkeypatch, capsys):
    straight = finetune(config)
    other = changed(config, output_tag="early")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_is_due", lambda self, is_validated: 1 / 0 if self.progress.step == 3 else False)
        with pytest.raises(ZeroDivisionError):
            finetune(other)
    assert Run.open("early").status().state == "failed"
    finetune(changed(other, resume=True))
    _assert_same_runs(straight, Run.open("early"))
    assert "no complete checkpoint to resume from: the training starts over at step 0" in capsys.readouterr().out


def test_sigterm_saves_and_stops(config):
    script = (
        "import os, signal, sys, json; from nanochat_core.training.trainer import Trainer\n"
        "from nanochat_core.cli.main import main\n"
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


def _kill_at_every_write(config) -> int:
    """Train again and again, killed before the n-th change of a checkpoint's names; how often until it came through."""
    script = (
        "import os, signal, sys, json\n"
        "from nanochat_core import FinetuneConfig\n"
        "from nanochat_core.training.finetune import finetune\n"
        "def counted(change, left):\n"
        "    def changing(*args, **kwargs):\n"
        "        if any(name in str(args[-1]) for name in ('model_', 'meta_', 'state_')):\n"
        "            left[0] -= 1\n"
        "            if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return change(*args, **kwargs)\n"
        "    return changing\n"
        "for kill_at in range(100):\n"
        "    if os.fork() == 0:\n"  # importing torch takes longer than the training
        "        left = [kill_at]\n"
        "        for name in ('replace', 'unlink'): setattr(os, name, counted(getattr(os, name), left))\n"
        "        settings = {**json.loads(sys.argv[1]), 'output_tag': f'killed-{kill_at}'}\n"
        "        finetune(FinetuneConfig.from_dict(settings))\n"
        "        os._exit(0)\n"
        "    if os.wait()[1] == 0: sys.exit(kill_at)\n"
    )
    words = [sys.executable, "-c", script, json.dumps(config.to_dict())]
    return subprocess.run(words, cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode


def test_a_kill_between_any_two_writes_of_checkpoints_loses_nothing(config):
    """Whatever the moment: the run resumes, its files are those of a run without a kill, and nothing is left over."""
    config = changed(config, num_iterations=2, eval_every=1, save_every=1)
    straight = finetune(config)
    files = _checkpoint_files(straight)
    kills = _kill_at_every_write(config)
    assert 10 < kills < 100
    for kill_at in range(kills):
        run = Run.open(f"killed-{kill_at}")
        assert run.status().state == "interrupted"
        finetune(changed(config, output_tag=run.tag, resume=True))
        assert run.status().state == "finished"
        _assert_same_runs(straight, run, step=2)
        assert _checkpoint_files(run) == files
        assert not list(run.path.rglob("*.tmp"))


def _checkpoint_files(run: Run) -> list[str]:
    return sorted(path.name for path in run.path.rglob("*") if path.suffix in (".pt", ".json", ".sha256"))


def test_a_damaged_resume_state_is_not_trained_on(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(config)
    [state] = run.resume_dir.glob("state_*.pt")
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.raises(ValueError, match=r"state_000010\.pt has changed.*--from_finetuned straight --model_step 6 "):
        finetune(changed(config, resume=True))


def test_strays_in_the_folder_are_passed_over(config, monkeypatch):
    straight = finetune(config)
    other = changed(config, output_tag="other")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(other)
    (run.resume_dir / "state_best.pt").write_bytes(b"mine")
    (run.path / "model_000099.pt").mkdir()
    (run.path / "meta_000099.json").mkdir()
    (run.path / "model_000010.pt.sha256").write_bytes(b"")
    (run.path / "all.sha256").write_bytes(b"mine")
    (run.path / "model_000098.pt.sha256").write_bytes(b"left over")
    finetune(changed(other, resume=True))
    _assert_same_runs(straight, run)
    assert (run.path / "all.sha256").read_bytes() == b"mine"
    assert not (run.path / "model_000098.pt.sha256").exists()
    assert (run.resume_dir / "state_best.pt").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["state_000010.pt", "base.pt"])
def test_a_state_that_was_cut_short_without_its_checksum_is_a_sentence(config, monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(config)
    path = run.resume_dir / name
    path.with_name(f"{name}.sha256").unlink()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{name} is damaged or cut short .*\. (It cannot be resumed|Delete it)"):
        finetune(changed(config, resume=True))


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_run_whose_data_was_edited_or_deleted_meanwhile_resumes_with_what_it_began_with(
    config, monkeypatch, is_deleted, capsys
):
    straight = finetune(config)
    stopped = changed(config, output_tag="stopped")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(stopped)
    _edit(Path(config.data_path), is_deleted)
    (run.path / "data.jsonl").write_text("a person's own copy")
    run = finetune(changed(stopped, resume=True))
    _assert_same_runs(straight, run)
    assert (run.path / "data.jsonl").read_text() == "a person's own copy"
    assert "it is trained on its own copy" in capsys.readouterr().out
    assert not run.unpacked_data_file.exists()
    newest = max(run.path.glob("meta_*.json"))
    assert json.loads(newest.read_text())["user_config"]["data_path"] == config.data_path


def test_changed_data_of_which_there_is_no_copy_is_not_resumed_on(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(config)
    run.data_file.unlink()
    _edit(Path(config.data_path))
    with pytest.raises(ValueError, match="has changed since run 'straight' was made, and the run has no copy of it"):
        finetune(changed(config, resume=True))
    _edit(Path(config.data_path), is_deleted=True)
    with pytest.raises(ValueError, match="is gone, and the run has no copy of it"):
        finetune(changed(config, resume=True))


def _edit(path: Path, is_deleted: bool = False) -> None:
    if is_deleted:
        path.unlink()
    else:
        with open(path, "a") as file:
            file.write('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')


def test_a_run_resumes_after_the_home_folder_was_renamed(config, monkeypatch, home, tmp_path):
    (home / "data").mkdir()
    config = changed(config, data_path=str(Path(config.data_path).rename(home / "data" / "mine.jsonl")))
    straight = finetune(config)
    stopped = changed(config, output_tag="stopped")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        finetune(stopped)
    renamed = tmp_path / "renamed"
    home.rename(renamed)
    monkeypatch.setenv("NANOCHAT_STUDIO_HOME", str(renamed))
    assert str(home) not in json.dumps(Run.open("stopped").record())
    run = Run.open("stopped")
    run = finetune(changed(run.settings(), resume=True))
    _assert_same_runs(Run.open(straight.tag), run)
