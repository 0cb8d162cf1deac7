"""The peak memory that is reported is the process's own, whoever started it."""

import math
import subprocess
import sys

import numpy as np

from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.system import processes
from nanochat_core.system.processes import peak_bytes

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
