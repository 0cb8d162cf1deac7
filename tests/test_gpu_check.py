"""`make gpu-check` runs whole on a CPU with a small shape, survives what breaks, and calls CUDA as torch has it."""

import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
import torch

from benchmarks import gpu_check, gpu_device, gpu_sections
from nanochat_core.config import MEMORY_MODES
from nanochat_core.paths import PROJECT_ROOT


@pytest.fixture(scope="module")
def found():
    """What every section finds here."""
    try:
        return {name: gpu_check.run_section(name, "cpu", small=True) for name in gpu_check.SECTIONS}
    finally:
        torch.use_deterministic_algorithms(mode=False)


def test_every_section_runs_and_passes_on_a_cpu(found):
    assert tuple(gpu_sections.SECTIONS) == gpu_check.SECTIONS
    assert {name: one["ok"] for name, one in found.items()} == dict.fromkeys(gpu_check.SECTIONS, True)
    for generation in "AE":
        assert found[f"bits {generation}"]["default"] == dict.fromkeys(MEMORY_MODES, True)
    assert found["CPU"]["loss"] == 0


def test_the_report_has_a_row_for_each_mode(found):
    report = gpu_check.report(found)
    for memory in MEMORY_MODES:
        assert f"| {memory} |" in report
    assert "All sections passed." in report
    assert report.startswith("### CPU, torch")


def test_what_fails_is_named_and_the_rest_is_shown(found):
    broken = {**found, "mode plain": {"ok": False, "error": "CUDA out of memory"}}
    report = gpu_check.report(broken)
    assert "- mode plain: CUDA out of memory" in report
    assert "| plain | failed |" in report
    assert "| layerwise | none |" in report


@pytest.mark.processes
def test_a_section_that_breaks_or_hangs_leaves_the_others(monkeypatch, capsys):
    lines = {"facts": 'print(\'{"ok": true, "device": "x"}\')', "chat": "1/0", "CPU": "import time; time.sleep(60)"}

    def finished(command, seconds):
        name = command[command.index("--section") + 1]
        return started([sys.executable, "-c", lines[name]], 3.0)

    started = gpu_check._finished
    monkeypatch.setattr(gpu_check, "_finished", finished)
    found = gpu_check.run_all("cpu", small=True, sections=("chat", "CPU", "facts"))
    assert found["facts"] == {"ok": True, "device": "x"}
    assert found["chat"]["error"] == "ZeroDivisionError: division by zero"
    assert found["CPU"]["error"] == "given up after 3 s"
    assert "failed" in capsys.readouterr().err


def test_a_card_larger_than_all_that_are_played_is_not_limited(monkeypatch):
    card = gpu_device.Cpu()
    card.total = 1 << 50
    card.play = lambda card_bytes, outside: pytest.fail(f"it plays {card_bytes} bytes")
    monkeypatch.setattr(gpu_sections, "CARDS", ())
    assert gpu_sections.mode(card, gpu_sections.SMALL, "plain")["played"] is None


@pytest.mark.processes
def test_a_section_is_a_line_of_json_in_a_process_of_its_own():
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--section", "facts", "--device", "cpu", "--small"]
    printed = subprocess.check_output(command, cwd=PROJECT_ROOT, text=True)
    assert json.loads(printed)["ok"] is True


def test_what_is_not_installed_is_named_with_its_command(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu_check"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tiktoken" else object())
    assert gpu_check.main() == 2
    assert "pip install tiktoken" in capsys.readouterr().err


@pytest.mark.processes
def test_a_bare_machine_needs_no_more_than_what_is_named():
    """The training's own imports, with everything else that this project requires out of reach."""
    code = (
        "import sys\n"
        "hidden = {'gradio', 'pandas', 'matplotlib', 'huggingface_hub', 'tyro', 'safetensors', 'pyarrow'}\n"
        "hidden |= {'starlette', 'uvicorn', 'pynvml', 'peft', 'charset_normalizer', 'gguf', 'transformers'}\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in hidden: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "import benchmarks.gpu_sections\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]


def test_cuda_is_called_as_torch_has_it(monkeypatch):
    """Each function of torch.cuda is replaced by one of the same signature; a misspelt name or argument fails."""
    answers = {
        "set_device": None,
        "get_device_properties": SimpleNamespace(total_memory=80 << 30),
        "mem_get_info": (70 << 30, 80 << 30),
        "get_device_capability": (9, 0),
        "get_device_name": "NVIDIA H100 80GB HBM3",
        "set_per_process_memory_fraction": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "max_memory_allocated": 5 << 30,
        "memory_reserved": 6 << 30,
        "synchronize": None,
        "is_available": True,
    }
    called = {name: create_autospec(getattr(torch.cuda, name), return_value=value) for name, value in answers.items()}
    for name, function in called.items():
        monkeypatch.setattr(torch.cuda, name, function)
    card = gpu_device.find_device()
    assert isinstance(card, gpu_device.Cuda)
    assert "NVIDIA H100" in card.describe()
    card.play(24 << 30, 1 << 30)
    assert called["set_per_process_memory_fraction"].call_args.args[0] == pytest.approx(23 / 80)
    card.forget_peak()
    card.wait()
    assert (card.peak(), card.outside()) == (5 << 30, 4 << 30)
    assert card.peak_flops() == 989e12
    assert all(function.called for function in called.values())
    called["is_available"].return_value = False
    assert isinstance(gpu_device.find_device(), gpu_device.Cpu)
    with pytest.raises(ValueError, match="no CUDA card"):
        gpu_device.find_device("cuda")
