"""Whole runs on a tiny model: what is written, what is kept, and what comes after."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat_core import Run, finetune, load_model
from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.paths import steps
from nanochat_core.training.step import Diverged
from nanochat_core.training.trainer import Trainer
from tests.support.short_training import changed, short_training
from tests.support.tiny import tiny_tokenizer
from tests.support.transformers_twin import transformers_twin

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(home):
    return short_training(home)


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
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, e: (seen.append([x.index for x in e]), step(self, e)))
    finetune(config)
    epochs = [[index for batch in seen[start : start + 4] for index in batch] for start in range(0, 20, 4)]
    assert all(sorted(epoch) == list(range(31)) for epoch in epochs)  # 35 less the 4 of the validation
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_only_the_best_and_the_last_are_kept_by_default(config, monkeypatch):
    from nanochat_core.evaluation.validation import Validation

    losses = iter([5.0, 4.0, 3.0, 3.5, 3.6])
    monkeypatch.setattr("nanochat_core.training.setup.validate", lambda *args: Validation(next(losses), 1.0))
    run = finetune(changed(config, save_every=-1))
    assert sorted(path.name for path in run.path.glob("model_*.pt")) == ["model_000012.pt", "model_000020.pt"]
    assert (run.status().best_step, run.status().best_val_loss) == (12, 3.0)
    assert "lowest at step 12" in run.log_tail()


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(config, monkeypatch):
    step = Trainer.step

    def poisoned(self, examples):
        if self.progress.step == 7:
            with torch.no_grad():
                next(self.setup.model.parameters()).fill_(float("nan"))
        step(self, examples)

    monkeypatch.setattr(Trainer, "step", poisoned)
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


def test_a_second_finetune_starts_from_the_first(config):
    first = finetune(config)
    second = finetune(changed(config, from_finetuned="straight", output_tag="second", num_epochs=1))
    start = second.metrics()["val_loss"].iloc[0]
    assert start == pytest.approx(first.metrics()["val_loss"].dropna().iloc[-1], abs=0.02)  # wte is stored in bf16
    assert second.record()["base_model"] == "finetuned/straight"
    assert second.record()["base_step"] == max(steps(first.path))


def test_a_finetuned_model_loads_in_transformers(config):
    finetune(config)
    model, _, _ = load_model("finetuned/straight")
    ids = torch.randint(0, 512, (1, 60))
    expected = transformers_twin(model)(ids).logits
    assert ((model(ids) - expected).norm() / expected.norm()).item() < 1e-3


@pytest.mark.processes
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
