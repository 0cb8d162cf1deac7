"""Compiled code of our own: C beside this file, built by the system's compiler when it is first needed, and kept.

Plain C, loaded by ctypes, needs nothing but a compiler and two seconds. Where there is none, `library` gives None, and
every caller has a way to the same results without it.
"""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from nanochat_core.paths import home
from nanochat_core.system.files import sha256_of, write_atomically

SOURCES = Path(__file__).parent / "c"
FLAGS = ("-std=gnu11", "-O3", "-shared", "-fPIC", "-pthread")
_BY_NAME = "-march=native", "-mcpu=native"
FOR_THIS_CPU = (*(_BY_NAME[::-1] if platform.machine() in ("aarch64", "arm64") else _BY_NAME), None)
"""What compilers call it, by processor; the first that is understood is taken. On AArch64 clang's -march=native is the
version of the architecture alone, without what the processor has beyond it (i8mm of a Graviton3); on x86-64 gcc's
-mcpu=native adds no instructions. Another processor's can be asked for by name: NANOCHAT_MARCH=x86-64-v3 builds what a
processor without AVX-512 would run. With torch told the same (ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2), the
tests show here whether they pass there."""
SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g")
"""Added with NANOCHAT_SANITIZE=1: a wild pointer or an undefined result ends the process. Python then needs the
sanitizer's library from its start (tests/support/sanitized.py). Of -O3, which it replaces, building takes 10 times as
long with them."""
BUILD_SECONDS = 120

_log = logging.getLogger(__name__)


@functools.cache
def library(name: str, **mirrored: type[ctypes.Structure]) -> ctypes.CDLL | None:
    """The library of c/<name>.c, built if need be. None, said once in the log with the reason, where that fails.

    mirrored: how ctypes describes the structures of the C file, each under its name there; the library is refused
    where C has it otherwise.
    """
    try:
        compiled = _load(_built(name))
        for structure, mirror in mirrored.items():
            _check_layout(compiled, f"{structure} of {name}.c", structure, mirror)
        return compiled
    except (OSError, NotImplementedError, subprocess.SubprocessError, _NoCompiler, _OtherLayout) as error:
        _log.warning("Without compiled code, which is slower: %s", error)
        return None


def find_compiler() -> tuple[str | None, str]:
    """(the compiler, "") or (None, why there is none)."""
    try:
        return _compiler(), ""
    except _NoCompiler as error:
        return None, str(error)


class _NoCompiler(Exception):
    """There is nothing to build with."""


class _OtherLayout(Exception):
    """C and ctypes describe a structure differently."""


def _check_layout(compiled: ctypes.CDLL, title: str, structure: str, mirror: type[ctypes.Structure]) -> None:
    """Compare a structure's size and the place of its last field with what C exports (c/layout.h)."""
    last = mirror._fields_[-1][0]
    ours = ctypes.sizeof(mirror), getattr(mirror, last).offset
    theirs = tuple((ctypes.c_int64 * 2).in_dll(compiled, f"layout_{structure}"))
    if ours != theirs:
        raise _OtherLayout(
            f"{title} has {theirs[0]} bytes, its last field at {theirs[1]}, but {mirror.__name__} of ctypes has "
            f"{ours[0]} and {last} at {ours[1]}. Give both the same fields"
        )


def _built(name: str) -> Path:
    """The library's file: one that was built from this source with this compiler for this processor, and is whole."""
    compiler = _compiler()
    folder = _folder()
    file = folder / f"{name}-{_key(compiler)}.so"
    # A second process waits for the first one's library instead of building its own.
    with FileLock(folder / f"{name}.lock"):
        if not _is_whole(file):
            _build(compiler, SOURCES / f"{name}.c", file)
    return file


def fingerprint() -> str:
    """Changes with the compiled code and the processor that it is for; where nothing compiles, with the latter."""
    try:
        return _key(_compiler())
    except (OSError, subprocess.SubprocessError, _NoCompiler):
        return hashlib.sha256(_processor().encode()).hexdigest()[:20]


def _load(file: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(file))


def _compiler() -> str:
    if sys.platform == "win32":
        raise _NoCompiler("there is none of gcc and clang that this system's Python could load code of")
    wanted = [os.environ.get("CC"), "cc", "gcc", "clang"]
    found = next((path for name in wanted if name and (path := shutil.which(name))), None)
    if found is None:
        raise _NoCompiler("no C compiler was found (cc, gcc or clang). One makes chats, and reading data, much faster")
    return found


def _key(compiler: str) -> str:
    """Changes with the source, the flags, the compiler and the processor."""
    digest = hashlib.sha256(repr((_flags(), _for_cpu(), platform.machine(), _processor())).encode())
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=BUILD_SECONDS)
    digest.update(version.stdout)
    for path in sorted(SOURCES.glob("*.[ch]")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:20]


def _flags() -> tuple[str, ...]:
    return FLAGS + SANITIZED if os.environ.get("NANOCHAT_SANITIZE") == "1" else FLAGS


def _for_cpu() -> tuple[str | None, ...]:
    """The flags to try, one after the other, for the processor that the code is for."""
    named = os.environ.get("NANOCHAT_MARCH")
    return (f"-march={named}",) if named else FOR_THIS_CPU


def _processor() -> str:
    """What tells this processor's instructions from another's: a home folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _folder() -> Path:
    """Beside the compiled Python, where it is of the same kind; under the home folder where that may not be written."""
    kind = "sanitized" if _flags() != FLAGS else ""  # apart: of one name and kind only the newest build is kept
    for folder in (SOURCES / "__pycache__" / kind, home() / "cache" / "compiled" / kind):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise _NoCompiler(f"neither {SOURCES} nor {home()} may be written to")


def _is_whole(file: Path) -> bool:
    """Whether the library is there as it was built: loading half a file could end the process."""
    noted = file.with_suffix(".sha256")
    return file.is_file() and noted.is_file() and noted.read_text() == sha256_of(file)


def _build(compiler: str, source: Path, file: Path) -> None:
    problem = ""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        made = Path(folder) / file.name
        for cpu in _for_cpu():
            command = [compiler, *_flags(), *([cpu] if cpu else []), str(source), "-o", str(made), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
            if done.returncode == 0:
                for old in file.parent.glob(f"{file.name.partition('-')[0]}-*"):
                    old.unlink(missing_ok=True)
                write_atomically(file, made.read_bytes())
                write_atomically(file.with_suffix(".sha256"), sha256_of(file).encode())
                return
            problem = done.stderr.strip().splitlines()[0] if done.stderr.strip() else f"status {done.returncode}"
    raise _NoCompiler(f"{compiler} could not build {source.name} ({problem})")
