"""Runs tests under the sanitizers of addresses and undefined behaviour: `python -m tests.support.sanitized [TESTS]`.

The compiled code is built with them (native/build.py). Python itself is not, so their library has to be there from the
start of the process, before any memory is given out.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/core/tokenizer/test_compiled.py",
    "tests/core/model/test_decode_step.py",
    "tests/core/model/test_decode_step_nan.py",
    "tests/core/engine/test_sampling.py",
    "tests/core/checkpoint/test_compact.py",
    "tests/core/checkpoint/test_few_bits.py",
    "tests/core/training/test_newton_schulz.py",
    "tests/core/training/test_muon.py",
)
"""Whatever calls compiled code."""
COMPILER = os.environ.get("CC", "cc")


def environment() -> dict[str, str]:
    """Of a Python process that loads compiled code built with the sanitizers."""
    found = [_file(name) for name in ("libasan.so", "libubsan.so")]
    return {
        **os.environ,
        "CC": COMPILER,
        "NANOCHAT_SANITIZE": "1",
        "LD_PRELOAD": " ".join(found),
        # Python leaves memory to the system at its end; torch's own libraries define some names twice.
        "ASAN_OPTIONS": "detect_leaks=0:detect_odr_violation=0:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "OMP_NUM_THREADS": "1",
    }


def _file(name: str) -> str:
    """Where the compiler has a library of its own."""
    asked = [COMPILER, f"-print-file-name={name}"]
    path = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not os.path.isabs(path):
        sys.exit(f"{COMPILER} has no {name}. Install gcc with its sanitizers (Debian: libgcc-dev), and CC=gcc.")
    return os.path.realpath(path)


if __name__ == "__main__":
    named = any(argument.startswith("tests/") for argument in sys.argv[1:])
    tests = sys.argv[1:] if named else [*sys.argv[1:], *TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    os.chdir(ROOT)
    os.execve(sys.executable, command, environment())
