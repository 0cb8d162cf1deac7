"""Whole runs in the memory modes: their files are those of plain, and a stop, a kill or a divergence is as in plain."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat_core import Run, finetune
from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.config import MEMORY_MODES
from nanochat_core.training.modes.passes import Pass
from nanochat_core.training.step import Diverged
from tests.support.short_training import changed, short_training

ROOT = Path(__file__).parents[4]
LAYERWISE = MEMORY_MODES[2:]


@pytest.fixture
def config(home, monkeypatch):
    """Two epochs in bf16, also on a processor that is slower with it: there the weights have halves."""
    monkeypatch.setattr("nanochat_core.compute.devices._computes_bf16", lambda device: True)
    return changed(short_training(home), num_epochs=2, dtype="bfloat16", eval_every=4)


@pytest.fixture
def straight(config):
    """The run that the others are compared with, in plain."""
    return finetune(config)


def _assert_same(straight: Run, other: Run) -> None:
    """Everything that lasts: weights, optimizer state, the exact tables, and the losses of every step."""
    step = straight.status().step
    assert other.status().step == step
    assert _all_bits(straight, step) == _all_bits(other, step)
    columns = ["step", "train_loss", "grad_norm", "val_loss", "tokens"]
    one, two = (run.metrics()[columns].astype(float).fillna(-1).values.tolist() for run in (straight, other))
    assert one == two


def _all_bits(run: Run, step: int) -> dict[str, bytes]:
    state = torch.load(run.resume_dir / f"state_{step:06d}.pt", weights_only=True)
    found = {**read_weights(run.path / f"model_{step:06d}.pt"), **{f"exact {k}": v for k, v in state["exact"].items()}}
    for name, values in state["optimizers"].items():
        found.update((f"{name} {key}", value) for key, value in values.items())
    return {name: tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for name, tensor in found.items()}


@pytest.mark.parametrize("memory", MEMORY_MODES[1:])
def test_a_run_leaves_the_files_of_plain(config, straight, memory, capsys):
    run = finetune(changed(config, memory=memory, output_tag="other"))
    assert run.status().memory == memory
    assert straight.status().memory == "plain"
    assert f"Memory mode {memory}" in run.log_tail()
    _assert_same(straight, run)
    assert {path.name for path in run.path.iterdir()} == {path.name for path in straight.path.iterdir()}


def test_a_run_resumes_in_another_mode(config, straight, monkeypatch):
    other = changed(config, output_tag="other")
    for number, memory in enumerate(["offloaded", "plain", "layerwise"]):
        wanted = 2 * (number + 1)
        with monkeypatch.context() as patch:
            patch.setattr(Run, "stop_requested", lambda run, n=wanted: run.metrics()["train_loss"].count() >= n)
            run = finetune(changed(other, memory=memory, resume=number > 0))
        assert (run.status().state, run.status().step, run.status().memory) == ("stopped", wanted, memory)
    run = finetune(changed(other, resume=True))
    assert run.status().memory == "layerwise"  # nothing was asked for, so it stays
    _assert_same(straight, run)


PHASES = {"turn": "Pass", "backward": "Pass", "finish": "Pass", "give_back": "InPlace"}
"""The head, a block's gradients, the embedding's, and what follows a part's step: each method with its class."""


@pytest.mark.processes
def test_a_kill_in_any_phase_of_a_step_loses_nothing(config):
    config = changed(config, device_batch_size=3)
    killed = changed(config, memory="offloaded")
    script = (
        "import os, signal, sys, json\n"
        "from nanochat_core import FinetuneConfig\n"
        "from nanochat_core.compute import devices\n"
        "from nanochat_core.training.finetune import finetune\n"
        "from nanochat_core.training.modes.passes import Pass\n"
        "from nanochat_core.training.modes.staging import InPlace\n"
        "from nanochat_core.training.trainer import Trainer\n"
        "devices._computes_bf16 = lambda device: True\n"
        "def killing(phase, owner):\n"
        "    step, method, steps, calls = Trainer.step, getattr(owner, phase), [], []\n"
        "    def count(self, examples): steps.append(None); step(self, examples)\n"
        "    def kill(self, *args):\n"
        "        if len(steps) == 7: calls.append(None)\n"
        "        if len(calls) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return method(self, *args)\n"
        "    Trainer.step = count\n"
        "    setattr(owner, phase, kill)\n"
        "for phase, owner in json.loads(sys.argv[2]).items():\n"
        "    if os.fork() == 0:\n"  # importing torch takes longer than the training
        "        killing(phase, globals()[owner])\n"
        "        finetune(FinetuneConfig.from_dict({**json.loads(sys.argv[1]), 'output_tag': phase}))\n"
        "        os._exit(0)\n"
        "    assert os.wait()[1] == signal.SIGKILL\n"
    )
    words = [sys.executable, "-c", script, json.dumps(killed.to_dict()), json.dumps(PHASES)]
    process = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    straight = finetune(config)
    for phase in PHASES:
        run = Run.open(phase)
        assert run.status().state == "interrupted"
        assert run.metrics()["train_loss"].count() == 6
        _assert_same(straight, finetune(changed(killed, output_tag=phase, resume=True)))
        assert not list(run.path.glob(".*.tmp"))


@pytest.mark.parametrize("memory", LAYERWISE)
@pytest.mark.parametrize("layer", [0, 1])
def test_a_gradient_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(config, monkeypatch, memory, layer):
    """One block's: those above it are stepped by then."""
    backward, passes = Pass.backward, []

    def poisoned(way, at):
        backward(way, at)
        passes.append(at)
        if passes.count(layer) == 2 * 6 + 1 and at == layer:  # two micro-batches a step
            way._model.transformer.h[layer].mlp.c_fc.weight.grad[0, 0] = float("nan")

    with monkeypatch.context() as patch:
        patch.setattr(Pass, "backward", poisoned)
        with pytest.raises(Diverged):
            finetune(changed(config, memory=memory))
    run = Run.open("straight")
    assert run.status().state == "failed"
    assert "diverged at step 7" in run.status().error
    weights = read_weights(run.path / "model_000005.pt")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert finetune(changed(config, resume=True, memory=memory)).status().state == "finished"
