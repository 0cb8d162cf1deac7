"""Files and datasets of strangers are read in a process of their own, with limits: the app sees lines of JSON only.

`python -m studio.datasets.apart read PATH OUT` and `... import REPO OUT LIMIT`. What is said stands on standard output,
a JSON object a line; the conversations come to lie in OUT, and of a file OUT.json has the numbers of its lines.
"""

import contextlib
import errno
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat_core.system.spawn import spawn
from studio.datasets.importing import Imported, read_lines
from studio.parts import html

MEMORY_BYTES = 6 << 30
"""Address space; readers of parquet map a good part of a gigabyte before they begin."""
UNPACKED_BYTES = 1 << 30
"""Text that an import in the app may come to."""
PROCESSOR_SECONDS = 900
_MOST_MESSAGE = 1 << 20
"""Bytes of one line of what the process says."""
_ROWS_A_MESSAGE = 20


@dataclass(frozen=True)
class HubImport:
    """What came of an import from the hub."""

    repo: str
    rows: int
    """Rows that were read."""
    said: list[str]
    """What was changed and left out, in sentences."""


def read_apart(path: Path, file_name: str) -> Imported:
    """`read_lines(path)` in a process of its own. ValueError also for what takes more memory or time than it may."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lines"
        for _ in _messages(["read", str(path), str(out)], file_name, secrets=False):
            pass
        told = json.loads(_facts_of(out).read_bytes())
        lines = out.read_bytes().split(b"\n")[:-1]
    return Imported(list(zip(told["numbers"], lines, strict=True)), told["notes"], told["is_converted"])


def import_apart(repo: str, out: Path, limit: int | None, count: Callable[[int], Any]) -> HubImport:
    """`import_dataset(repo, out)` in a process of its own. count: called with the rows that were read so far."""
    result = HubImport(repo, 0, [])
    for told in _messages(["import", repo, str(out), str(limit or 0)], f"The dataset {repo}", secrets=True):
        if "count" in told:
            count(told["count"])
        else:
            result = HubImport(repo, told["rows"], told["said"])
    return result


def _messages(words: list[str], what: str, *, secrets: bool) -> Iterator[dict[str, Any]]:
    """What the process says, until it ends. ValueError with its sentence; it is ended when its reader is gone."""
    command = [sys.executable, "-m", "studio.datasets.apart", *words]
    process = spawn(command, secrets=secrets, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        while line := process.stdout.readline(_MOST_MESSAGE):
            told = json.loads(line)
            if "error" in told:
                raise ValueError(told["error"])
            yield told
        if process.wait() != 0:
            raise ValueError(_too_much(what))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _facts_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


def _too_much(what: str) -> str:
    return (
        f"{what} cannot be read: unpacked it takes more than an import may ({html.size(UNPACKED_BYTES)} of text, "
        f"{html.size(MEMORY_BYTES)} of memory, {PROCESSOR_SECONDS // 60} minutes). Split it, or import a part of it."
    )


# In the process


def main(arguments: list[str]) -> int:
    """Do one of the two, within the limits. Returns the exit status."""
    confine(MEMORY_BYTES, UNPACKED_BYTES, PROCESSOR_SECONDS)
    say = _sayer()
    try:
        if arguments[0] == "read":
            _read(Path(arguments[1]), Path(arguments[2]))
        else:
            say(_import(arguments[1], Path(arguments[2]), int(arguments[3]) or None, say))
    except ValueError as error:
        say({"error": str(error)})
    except MemoryError:
        return 1
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.ENOMEM):
            return 1
        say({"error": f"{error.filename or arguments[1]} cannot be read or written ({error.strerror}). Try again."})
    return 0


def _sayer() -> Callable[[dict[str, Any]], None]:
    """Says one thing on the standard output, which nothing else may write to."""
    channel, sys.stdout = sys.stdout, sys.stderr

    def say(told: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(told), file=channel, flush=True)

    return say


def _read(path: Path, out: Path) -> None:
    imported = read_lines(path)
    with open(out, "wb") as file:
        file.writelines(line + b"\n" for _, line in imported.lines)
    numbers = [number for number, _ in imported.lines]
    facts = {"numbers": numbers, "notes": imported.notes, "is_converted": imported.is_converted}
    _facts_of(out).write_text(json.dumps(facts), encoding="utf-8")


def _import(repo: str, out: Path, limit: int | None, say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    from nanochat_core.hub.datasets import import_dataset  # noqa: PLC0415  pyarrow is for this process alone

    def counted(rows: int, _: int | None) -> None:
        if rows % _ROWS_A_MESSAGE == 0:
            say({"count": rows})

    report = import_dataset(repo, out, limit=limit, report=counted)
    return {"rows": report.rows, "said": report.repaired.summary().splitlines()}


def confine(memory_bytes: int, file_bytes: int | None = None, processor_seconds: int | None = None) -> None:
    """Limit this process, for good: beyond it comes MemoryError, OSError (EFBIG), or its end by SIGXCPU.

    What is packed can unpack to any size, and a reader written in C may ask for it all at once; only the system holds
    that. Where the system has no such limits (Windows, and the memory's on macOS), nothing happens.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  not on Windows

    wanted = {"RLIMIT_AS": memory_bytes, "RLIMIT_FSIZE": file_bytes, "RLIMIT_CPU": processor_seconds}
    if sys.platform == "darwin":
        del wanted["RLIMIT_AS"]
    for name, most in wanted.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        if most is not None:
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
