"""The compiled code under the address and undefined-behaviour sanitizers: a short part here, all by `make sanitize`."""

import shutil
import subprocess
import sys

import pytest

from nanochat_core.native.build import SOURCES
from tests.support.sanitized import ROOT, environment

pytestmark = pytest.mark.processes

SHORT = (
    "tests/core/checkpoint/test_few_bits.py::test_what_is_no_number_is_not_lost",
    "tests/core/tokenizer/test_compiled.py::test_random_texts",
    "tests/core/tokenizer/test_compiled.py::test_long_pieces",
    "tests/core/model/test_decode_step.py::test_every_generation_equals_torch",
    "tests/core/model/test_decode_step.py::test_few_bits_equal_torch_with_the_same_rounded_weights",
    "tests/core/model/test_decode_step.py::test_two_threads_give_what_one_gives",
    "tests/core/training/test_newton_schulz.py::test_threads_share_the_work_and_change_nothing",
)
ROUNDING = """
import ctypes, pathlib, sys
import torch
from nanochat_core.checkpoint.few_bits import _Request
from nanochat_core.native import build
build.SOURCES = pathlib.Path(sys.argv[1])
compiled = build.library("quantize", request=_Request)
matrix, rounded, scales = torch.ones(4, 32), torch.empty(16, 32, dtype=torch.int8), torch.empty(16)
pointers = (tensor.data_ptr() for tensor in (matrix, rounded, scales, scales))
compiled.quantize(ctypes.byref(_Request(*pointers, 0, 4, 32, 0, 8, 1)))
"""
BROKEN = {
    "a read beyond the end": ("row < begin + ROWS && row < r->rows", "row < begin + ROWS", "heap-buffer-overflow"),
    "a sum that overflows": (
        "int64_t place = r->first + row;\n",
        "int64_t place = r->first + row; volatile int32_t huge = INT32_MAX; place += huge * (int32_t)r->bits == 1;\n",
        "signed integer overflow",
    ),
}


def _python(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)


def test_the_compiled_code_does_nothing_undefined():
    done = _python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *SHORT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_ends_the_process(tmp_path, fault):
    shutil.copytree(SOURCES, tmp_path / "c", ignore=shutil.ignore_patterns("__pycache__"))
    right, wrong, said = BROKEN[fault]
    source = tmp_path / "c" / "quantize.c"
    assert right in source.read_text()
    source.write_text(source.read_text().replace(right, wrong))
    done = _python("-c", ROUNDING, str(tmp_path / "c"))
    assert done.returncode != 0
    assert said in done.stderr
