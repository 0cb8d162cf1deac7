"""`doctor` tells what the machine can do, from facts that are found and speeds that are measured."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from nanochat_core.cli import machine
from nanochat_core.cli.main import main
from nanochat_core.config import MEMORY_MODES
from nanochat_core.system.hardware import Gpu, Hardware, Processor, find_hardware
from tests.support.tiny import install_tiny_model

CPU = Processor("A Processor 9000", ("AVX2", "AVX-512"))
TORCH = {
    "torch": "2.13.0+cpu",
    "torch_cuda": None,
    "torch_cpu": "AVX512",
    "device": "cpu",
    "device_type": "cpu",
    "bf16": True,
    "threads": 8,
}


@pytest.fixture
def found(monkeypatch):
    """What the machine has, and what the measuring process says; a test changes it."""
    known = SimpleNamespace(
        hardware=Hardware((), False, 8, 64 << 30, "", CPU), measured=TORCH, error="", compiler=("cc", "")
    )

    def measured(shapes):
        speeds = [{"train_tokens_per_s": 1234.5, "chat_tokens_per_s": 5.5}] * len(shapes)
        return (known.measured and {**known.measured, "speeds": speeds}), known.error

    monkeypatch.setattr(machine, "find_hardware", lambda: known.hardware)
    monkeypatch.setattr(machine, "_measured", measured)
    monkeypatch.setattr(machine, "find_compiler", lambda: known.compiler)
    monkeypatch.setattr(machine, "library", lambda name: known.compiler[0])
    return known


def _json(capsys) -> dict:
    assert main(["doctor", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_machine_is_told_in_one_screen(home, found, capsys):
    install_tiny_model(home)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 30
    for fact in ("A Processor 9000, 8 cores", "AVX2, AVX-512", "64.0 GiB", "built without CUDA", "1,234", "5.5"):
        assert fact in said
    assert "pretrained/d32 (not downloaded)" in said
    assert "download" in said.splitlines()[-1]


def test_the_facts_have_names(home, found, capsys):
    install_tiny_model(home)
    facts = _json(capsys)
    assert facts["vector_units"] == ["AVX2", "AVX-512"]
    assert (facts["cores"], facts["memory_bytes"], facts["bf16"], facts["error"]) == (8, 64 << 30, True, "")
    tiny = next(model for model in facts["models"] if model["name"] == "pretrained/tiny")
    assert (tiny["memory"], tiny["train_tokens_per_s"]) == ("plain", 1234.5)
    assert [mode["memory"] for mode in tiny["modes"]] == list(MEMORY_MODES)
    assert [one["what"].split(",")[0] for one in facts["missing"]] == ["nanochat-d32"]


def test_a_gpu_decides_which_mode_fits(home, found, capsys):
    found.hardware = Hardware((Gpu(0, "RTX", 24 << 30, 0, (8, 9)),), False, 8, 64 << 30, "", CPU)
    found.measured = {**TORCH, "torch_cuda": "13.0", "device": "RTX", "device_type": "cuda"}
    facts = _json(capsys)
    assert facts["gpus"][0]["bf16"] is True
    assert facts["models"][-1]["memory"] == "layerwise"
    assert len(facts["missing"]) == 1
    found.measured = TORCH  # its torch does not know the GPU
    assert "does not use the GPU" in _json(capsys)["missing"][0]["what"]


def test_what_is_missing_comes_with_a_command(home, found, capsys, monkeypatch):
    found.compiler = None, "no C compiler was found"
    found.hardware = Hardware((), False, 8, 64 << 30, "There is a driver without GPUs.", CPU)
    monkeypatch.setattr(
        machine.metadata, "requires", lambda name: ["torch>=2", "nowhere-to-be-found[x]>=1", "a; extra == 'b'"]
    )
    facts = _json(capsys)
    assert [one["what"] for one in facts["missing"]][:3] == [
        "the packages nowhere-to-be-found",
        "no C compiler was found",
        "There is a driver without GPUs.",
    ]
    assert all(one["fix"] for one in facts["missing"])


def test_a_measurement_that_fails_leaves_the_other_facts(home, found, capsys):
    found.measured, found.error = None, "RuntimeError: no CUDA driver."
    facts = _json(capsys)
    assert (facts["device"], facts["error"]) == (None, "RuntimeError: no CUDA driver.")
    assert facts["models"][-1]["chat_tokens_per_s"] is None
    assert main(["doctor"]) == 0
    assert "Not measured: RuntimeError: no CUDA driver." in capsys.readouterr().out


@pytest.mark.processes
def test_the_speeds_are_measured_in_a_process_of_their_own(home, monkeypatch):
    from nanochat_core.memory.shapes import shape_in
    from nanochat_core.paths import find_model

    install_tiny_model(home)
    measured, error = machine._measured([shape_in(find_model("pretrained/tiny"))])
    assert error == ""
    assert measured["device_type"] in ("cpu", "cuda", "mps")
    assert measured["speeds"][0]["train_tokens_per_s"] > 0
    assert measured["speeds"][0]["chat_tokens_per_s"] > 0
    monkeypatch.setattr(
        machine, "spawn", lambda command, **options: subprocess.Popen(["sh", "-c", "echo oh >&2; exit 3"], **options)
    )
    assert machine._measured([]) == (None, "oh")


def test_a_large_model_is_measured_by_a_small_one_of_its_width(monkeypatch):
    import torch

    from nanochat_core.model.gpt import GPTConfig
    from nanochat_core.training import speed

    make, tried = speed._random_model, []
    monkeypatch.setattr(speed, "_random_model", lambda shape, *rest: tried.append(shape) or make(shape, *rest))
    monkeypatch.setattr(speed, "LARGE", 1 << 10)
    monkeypatch.setattr(speed, "VOCABULARY", 512)
    monkeypatch.setattr(speed, "ENOUGH_SECONDS", 0.0)
    shape = GPTConfig(sequence_len=64, vocab_size=1024, n_layer=8, n_head=2, n_kv_head=2, n_embd=64)
    found = speed.measure(shape, torch.device("cpu"))
    assert [(one.n_layer, one.vocab_size, one.n_embd) for one in tried] == [(1, 512, 64)]
    assert found["train_tokens_per_s"] > 0
    assert found["chat_tokens_per_s"] > 0


def test_this_machine_s_processor_is_named():
    hardware = find_hardware()
    assert hardware.processor.name
    assert hardware.cores >= 1
    assert hardware.processor.name in hardware.sentence()
