"""A process is told from all others, and the peak memory that is reported is its own."""

import math
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.system import processes
from nanochat_core.system.processes import peak_bytes

pytestmark = pytest.mark.processes


@pytest.mark.processes
def test_a_process_of_any_name_is_told_by_its_start(tmp_path):
    program = shutil.copy(shutil.which("sleep"), tmp_path / "a) 1 (b")
    started = subprocess.Popen([program, "60"])
    try:
        who = processes.identity(started.pid)
        assert processes.is_alive(who)
        assert not processes.is_alive(replace(who, start=who.start - 1))
        assert who.start > processes.identity(1).start
    finally:
        started.kill()
    started.wait()
    assert not processes.is_alive(who)


REPORT = "from nanochat_core.system.processes import peak_bytes; print(peak_bytes())"


def of_a_child() -> float:
    return float(subprocess.check_output([sys.executable, "-c", REPORT], cwd=PROJECT_ROOT))


def test_a_child_of_a_large_process_reports_its_own():
    alone = of_a_child()
    ballast = np.ones(400 << 17)  # 400 MiB
    assert of_a_child() < alone + (100 << 20)
    assert peak_bytes() > ballast.nbytes


def test_it_is_the_peak_and_not_the_present():
    before = peak_bytes()
    assert np.ones(int(before) // 8 + (50 << 17)).sum() > 0
    assert peak_bytes() > before + (40 << 20)


def test_without_proc_it_is_getrusages_and_unknown_for_others(monkeypatch):
    there = peak_bytes()
    monkeypatch.setattr(processes.Path, "exists", lambda path: False)
    assert peak_bytes() > 0.99 * there  # Linux counts the two at different moments
    assert math.isnan(peak_bytes(1))
    monkeypatch.setattr(processes.sys, "platform", "darwin")
    assert peak_bytes() < there / 100  # these would be bytes already
