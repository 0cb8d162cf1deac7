"""The GPUs of a machine are found without torch, and said."""

import os
import stat

import pytest

from studio.runs import hardware
from studio.train_tab import before_start


def fake_nvidia(tmp_path, monkeypatch, script):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_gpus_are_found_without_torch(tmp_path, monkeypatch):
    fake_nvidia(tmp_path, monkeypatch, "echo '0, NVIDIA H100 80GB HBM3, 81559, 4'; echo '1, NVIDIA GB10, [N/A], [N/A]'")
    found = hardware.find_hardware()
    assert [(gpu.index, gpu.memory >> 30) for gpu in found.gpus] == [(0, 79), (1, 0)]
    assert "NVIDIA H100" in found.sentence()
    names = before_start.gpu_names(found)
    assert before_start.processes(found, names, 1) == (2, "")
    assert before_start.processes(found, names[1:], 1) == (1, "1")
    with pytest.raises(ValueError, match="No GPU is ticked"):
        before_start.processes(found, [], 1)


def test_no_gpu_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "No GPU was found" in hardware.find_hardware().sentence() or hardware.find_hardware().apple
    fake_nvidia(tmp_path, monkeypatch, "exit 9")
    assert "gave no list" in hardware.find_hardware().sentence() or hardware.find_hardware().apple
