"""Whole runs on a tiny model: what is written, that stopping and killing lose nothing, and every hard case of data."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat_core import FinetuneConfig, Run, finetune, load_model
from nanochat_core.checkpoint import read_weights
from nanochat_core.trainer import Diverged, Trainer
from tests.tiny import install_tiny_model, tiny_tokenizer, write_conversations
from tests.transformers_twin import transformers_twin

ROOT = Path(__file__).parent.parent


@pytest.fixture
def config(home):
    """Twenty steps, four an epoch, in fp32."""
    install_tiny_model(home)
    data = write_conversations(home / "data.jsonl", 35)
    return FinetuneConfig(
        str(data),
        model_tag="tiny",
        num_epochs=5,
        target_examples_per_step=8,
        init_lr_frac=1.0,
        eval_every=6,
        save_every=5,
        dtype="float32",
        output_tag="straight",
    )


def _changed(config: FinetuneConfig, **changes) -> FinetuneConfig:
    return FinetuneConfig.from_dict({**config.to_dict(), **changes})


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


def test_a_run_writes_all_that_is_promised(config):
    run = finetune(config)
    status, metrics = run.status(), run.metrics()
    assert (status.state, status.step, status.steps) == ("finished", 20, 20)
    assert metrics["train_loss"].dropna().shape == (20,)
    assert metrics["step"][metrics["train_loss"].notna()].tolist() == list(range(1, 21))
    validated = metrics[metrics["val_loss"].notna()]
    assert validated["step"].tolist() == [0, 6, 12, 18, 20]
    assert validated["val_loss"].iloc[-1] < validated["val_loss"].iloc[0] / 2
    assert metrics["val_bpb"].dropna().between(0.1, 20).all()
    assert metrics["lr_mult"].dropna().tolist() == pytest.approx([1 - i / 20 for i in range(20)])
    assert sorted(path.name for path in run.path.glob("model_*.pt")) == [
        f"model_{i:06d}.pt" for i in (5, 10, 15, 20)
    ]  # 20 is the best
    meta = json.loads((run.path / "meta_000020.json").read_text())
    assert meta["step"] == 20
    assert meta["model_config"]["n_layer"] == 2
    weights = read_weights(run.path / "model_000020.pt")
    assert {str(t.dtype) for name, t in weights.items() if "wte" not in name} == {"torch.float32"}
    assert weights["transformer.wte.weight"].dtype == torch.bfloat16
    assert "before" in (run.path / "log.txt").read_text()


def test_every_conversation_once_an_epoch_in_a_new_order(config, monkeypatch):
    seen = []
    step = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda self, e: (seen.append([x.index for x in e]), step(self, e)))
    finetune(config)
    epochs = [[index for batch in seen[start : start + 4] for index in batch] for start in range(0, 20, 4)]
    assert all(sorted(epoch) == list(range(31)) for epoch in epochs)  # 35 less the 4 of the validation
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_stop_and_resume_equals_straight_on(config, monkeypatch):
    straight = finetune(config)
    stopped = _changed(config, output_tag="stopped")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(stopped)
    assert (run.status().state, run.status().step) == ("stopped", 10)
    run.request_stop()  # left from before: must not stop the resumed run
    run = finetune(_changed(stopped, resume=True))
    assert run.status().state == "finished"
    _assert_same_runs(straight, run)


def test_kill_and_resume_equals_straight_on(config):
    straight = finetune(config)
    killed = _changed(config, output_tag="killed")
    script = (
        "import os, signal, sys, json; from nanochat_core.trainer import Trainer\n"
        "from nanochat_core import FinetuneConfig, finetune\n"
        "note = Trainer._note_step\n"
        "def kill(self, *args):\n"
        "    note(self, *args)\n"
        "    if self.progress.step == 12: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Trainer._note_step = kill\n"
        "finetune(FinetuneConfig.from_dict(json.loads(sys.argv[1])))\n"
    )
    process = subprocess.run([sys.executable, "-c", script, json.dumps(killed.to_dict())], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    run = Run.open("killed")
    assert run.status().state == "interrupted"
    assert run.metrics()["step"].max() == 12
    finetune(_changed(killed, resume=True))
    _assert_same_runs(straight, run)


def test_killed_before_any_checkpoint_begins_anew(config, monkeypatch):
    straight = finetune(config)
    other = _changed(config, output_tag="early")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_is_due", lambda self, validation: 1 / 0 if self.progress.step == 3 else False)
        with pytest.raises(ZeroDivisionError):
            finetune(other)
    assert Run.open("early").status().state == "failed"
    finetune(_changed(other, resume=True))
    _assert_same_runs(straight, Run.open("early"))


def test_sigterm_saves_and_stops(config):
    script = (
        "import os, signal, sys, json; from nanochat_core.trainer import Trainer\n"
        "from nanochat_core.__main__ import main\n"
        "step = Trainer._step\n"
        "def term(self, examples):\n"
        "    step(self, examples)\n"
        "    if self.progress.step == 7: os.kill(os.getpid(), signal.SIGTERM)\n"
        "Trainer._step = term\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    flags = [f"--{name}={value}" for name, value in config.to_dict().items() if value not in (None, False)]
    process = subprocess.run([sys.executable, "-c", script, "finetune", *flags], cwd=ROOT, check=False)
    assert process.returncode == 0
    run = Run.open("straight")
    assert (run.status().state, run.status().step) == ("stopped", 7)
    assert (run.path / "model_000007.pt").is_file()


def test_only_the_best_and_the_last_are_kept_by_default(config, monkeypatch):
    from nanochat_core.validation import Validation

    losses = iter([5.0, 4.0, 3.0, 3.5, 3.6])
    monkeypatch.setattr("nanochat_core.trainer.validate", lambda *args: Validation(next(losses), 1.0))
    run = finetune(_changed(config, save_every=-1))
    assert sorted(path.name for path in run.path.glob("model_*.pt")) == ["model_000012.pt", "model_000020.pt"]
    assert (run.status().best_step, run.status().best_val_loss) == (12, 3.0)
    assert "lowest at step 12" in run.log_tail()


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(config, monkeypatch):
    step = Trainer._step

    def poisoned(self, examples):
        if self.progress.step == 7:
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("nan"))
        step(self, examples)

    monkeypatch.setattr(Trainer, "_step", poisoned)
    with pytest.raises(Diverged):
        finetune(config)
    run = Run.open("straight")
    assert run.status().state == "failed"
    assert "diverged at step 8" in run.status().error
    assert "init_lr_frac" in run.status().remedy
    weights = read_weights(run.path / "model_000005.pt")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert sorted(path.name for path in run.path.glob("model_*.pt")) == ["model_000005.pt", "model_000006.pt"]


def test_a_second_run_under_the_same_name_is_refused(config):
    finetune(config)
    with pytest.raises(ValueError, match="already a run 'straight'"):
        finetune(config)


def test_a_finished_run_or_one_without_its_state_is_not_resumed(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(config)
    metrics = run.metrics_file.read_bytes()
    shutil.rmtree(run.resume_dir)
    with pytest.raises(ValueError, match="resume/ is gone"):
        finetune(_changed(config, resume=True))
    assert run.metrics_file.read_bytes() == metrics
    finished = finetune(_changed(config, output_tag="finished"))
    with pytest.raises(ValueError, match="has finished"):
        finetune(_changed(config, output_tag="finished", resume=True))
    assert finished.status().state == "finished"


def test_resuming_removes_what_a_kill_left_half_written(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        run = finetune(config)
    (run.path / ".model_000015.pt.abc.tmp").write_bytes(b"half")
    (run.resume_dir / ".state_000015.pt.abc.tmp").write_bytes(b"half")
    for name in ("model_{}.pt", "meta_{}.json"):  # saved, but killed before its state was
        shutil.copy(run.path / name.format("000010"), run.path / name.format("000012"))
    finetune(_changed(config, resume=True))
    assert not list(run.path.rglob("*.tmp"))
    assert not (run.path / "model_000012.pt").exists()


def test_changed_data_is_not_resumed_on(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 10)
        finetune(config)
    with open(config.data_path, "a") as file:
        file.write('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    with pytest.raises(ValueError, match="has changed"):
        finetune(_changed(config, resume=True))


def test_a_second_finetune_starts_from_the_first(config):
    first = finetune(config)
    second = finetune(_changed(config, from_finetuned="straight", output_tag="second", num_epochs=1))
    start = second.metrics()["val_loss"].iloc[0]
    assert start == pytest.approx(first.metrics()["val_loss"].dropna().iloc[-1], abs=0.02)  # wte is stored in bf16
    assert second.record()["base_model"] == "finetuned/straight"


def test_a_finetuned_model_loads_in_transformers(config):
    finetune(config)
    model, _, _ = load_model("finetuned/straight")
    ids = torch.randint(0, 512, (1, 60))
    expected = transformers_twin(model)(ids).logits
    assert ((model(ids) - expected).norm() / expected.norm()).item() < 1e-3


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
        finetune(_changed(config, data_path=_file(home, [("a", "b")])))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_conversations_train_with_the_true_numbers(config, home, count):
    data = _file(home, [(f"question {i}", f"reply {i}") for i in range(count)])
    run = finetune(_changed(config, data_path=data, num_epochs=2))
    metrics = run.metrics()
    assert run.status().steps == 2
    assert metrics["val_loss"].notna().sum() == 2
    assert metrics["train_loss"].count() == 2
    assert f"{count - 1} to train on" in run.log_tail(100)


def test_all_longer_than_the_context_train_on_what_is_left(config, home):
    data = _file(home, [(f"question {i}", "a long reply " * 50) for i in range(6)])
    run = finetune(_changed(config, data_path=data, num_epochs=1, max_seq_len=64))
    assert run.status().state == "finished"
    assert "6 conversations are longer than 64 tokens" in run.log_tail(100)


def test_conversations_whose_replies_are_cut_off_are_left_out_and_said(config, home):
    data = _file(home, [("long question " * 50, "never seen"), *[(f"question {i}", "reply") for i in range(5)]])
    run = finetune(_changed(config, data_path=data, num_epochs=1, max_seq_len=64))
    assert "1 conversations have nothing to learn" in run.log_tail(100)
    assert "4 to train on, and the last 1" in run.log_tail(100)
    assert run.metrics()["train_loss"].notna().any()


def test_nothing_to_learn_at_all_is_refused(config, home):
    data = _file(home, [("long question " * 50, "never seen")] * 4)
    with pytest.raises(ValueError, match="None of the 4 conversations"):
        finetune(_changed(config, data_path=data, max_seq_len=64))


def test_replay_mixes_general_conversations_in(config, home, monkeypatch):
    replay = write_conversations(home / "general.jsonl", 50)
    seen = []
    step = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda self, e: (seen.append(len(e)), step(self, e)))
    run = finetune(_changed(config, replay_path=str(replay), replay_ratio=1.0, num_epochs=2))
    assert sum(seen) == 2 * 62
    assert "Replay: 31 of 50" in run.log_tail(100)


def test_the_command_ends_a_mistake_with_one_sentence(config, home):
    arguments = ["finetune", "--data_path", str(home / "missing.jsonl"), "--model_tag", "tiny"]
    process = subprocess.run(
        [sys.executable, "-m", "nanochat_core", *arguments],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr.startswith("Error: ")
    assert "Traceback" not in process.stderr
    assert "missing.jsonl" in process.stderr


def test_tokenizer_and_bytes_lie_beside_the_model(config):
    run = finetune(config)
    assert torch.load(run.path / "token_bytes.pt").tolist() == tiny_tokenizer().token_bytes()
