"""Inside a job: what the run has written is pushed to the hub while it trains; trouble with the hub harms nothing."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub.errors import HTTPError

from nanochat_core.remote.repository import RemoteRepo, is_checkpoint_file, journal_folder, journal_path, run_folder
from nanochat_core.runs.run import ROWS, Run

_MOST_LOG_BYTES = 200_000
_MOST_LAST_BYTES = 20_000_000
_TRIES = 10
_WEIGHTS = re.compile(r"(?:model|adapter)_(\d{6,})")

KNOWN_OUTSIDE = ("stage", "trouble")
"""Fields of a status that the machine which follows the job writes, and the job leaves alone."""
Signature = tuple[int, int, int]
"""(inode, size, time of change): a file that is saved again has another one."""


@dataclass
class Pusher:
    """Pushes one run from one job. Not for use from several threads."""

    run: Run
    repo: RemoteRepo
    attempt: int
    staging: Path
    """An empty folder on the same disk as the run: checkpoints are linked here while they are sent."""
    secret: str
    """Never leaves this machine within a log."""
    pushed: dict[str, Signature] = field(default_factory=dict)
    """Checkpoint files that the repository has, by their path in the run's folder."""
    number: int = 0
    """Entries of the journal that this job has written."""
    _metrics_bytes: int = 0
    _log_bytes: int = 0
    _first: bool = True
    _is_sure: bool = True
    """`pushed` is what the repository has."""
    _has_deleted: bool = False
    """The history may hold checkpoints that were replaced."""
    _waiting: bytes | None = None
    """An entry whose commit failed, perhaps after it was made: it is sent again as it was."""

    def begin(self) -> None:
        """Take the run's files as they are for what the repository has, and continue after the journal's last entry."""
        self.pushed = {path: _signature(self.run.path / path) for path in _checkpoint_files(self.run.path)}
        names = [
            file.path for file in self.repo.list(journal_folder(self.attempt, 1).rpartition("/")[0], recursive=True)
        ]
        self.number = max((int(PurePosixPath(name).stem) for name in names), default=0)

    def push(self, is_last: bool = False) -> bool:
        """Send what is new in one commit. False when the hub did not take all; the next push then sends the rest.

        A checkpoint and the metrics up to it come in the same commit, since its files are looked at first.
        """
        try:
            if self._waiting is not None:
                self._send_entry({}, set())
            stored = set(self.pushed) if self._is_sure else self._stored()
            self._is_sure = False
            with _linked(self.run.path, self.staging) as found:
                new = {path: file for path, file in found.items() if self.pushed.get(path) != _signature(file)}
                if set(new) == {ROWS} and not is_last:  # it grows with every step, and is sent whole
                    new = {}
                gone = stored - set(found)
                self._has_deleted |= bool(gone)
                signatures = {path: _signature(file) for path, file in found.items()}
                self._waiting = self._entry(is_last)
                self._send_entry(new, gone)
                self.pushed, self._is_sure = signatures, True
                if self._has_deleted:
                    self.repo.forget_history()
                    self._has_deleted = False
        except (HTTPError, OSError, RuntimeError, ValueError) as error:  # RuntimeError: Xet; ValueError: LFS refusals
            print(f"The hub did not take a push ({type(error).__name__}: {error}). It is tried again.", flush=True)
            return False
        return True

    def _stored(self) -> set[str]:
        """What the repository really has, after a commit of which we do not know whether it was made."""
        folder = run_folder(self.run.tag)
        return {file.path.removeprefix(f"{folder}/") for file in self.repo.list(folder, recursive=True)}

    def _send_entry(self, new: dict[str, Path], gone: set[str]) -> None:
        folder = run_folder(self.run.tag)
        files: dict[str, Path | bytes] = {f"{folder}/{path}": file for path, file in new.items()}
        assert self._waiting is not None
        files[journal_path(self.attempt, self.number + 1)] = self._waiting
        self.repo.commit(files, f"Step {self.run.status().step}", [f"{folder}/{path}" for path in sorted(gone)])
        self.number += 1
        self._waiting = None

    def _entry(self, is_last: bool) -> bytes:
        """The next entry: new lines of metrics, new text of the log, and the status as it is now."""
        status = self.run.status()  # before the metrics: what it has counted is then among them
        rows, metrics_end = _rows(self.run.metrics_file, self._metrics_bytes)
        most = _MOST_LAST_BYTES if is_last else _MOST_LOG_BYTES
        log, log_end = _text(self.run.log_file, self._log_bytes, most)
        entry: dict[str, Any] = {"metrics": rows, "log": log, "is_last": is_last}
        if entry["metrics"] and self._first:
            # What an earlier job has noted of these steps is written again, as the checkpoint was older.
            entry["rewind"] = entry["metrics"][0]["step"] - 1
            self._first = False
        values = asdict(status)
        values = {**values.pop("more"), **values}
        entry["status"] = {name: value for name, value in values.items() if name not in KNOWN_OUTSIDE}
        self._metrics_bytes, self._log_bytes = metrics_end, log_end
        text = json.dumps(entry, ensure_ascii=False)
        return (text.replace(self.secret, "(token)") if self.secret else text).encode()


def _checkpoint_files(folder: Path) -> list[str]:
    """Files to keep, relative to the run's folder; weights without their description are not complete yet."""
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    found = [path.as_posix() for path in paths if is_checkpoint_file(PurePosixPath(path.as_posix()))]
    whole = {name[5:-5] for name in found if name.startswith("meta_")}
    steps = {name: _WEIGHTS.match(name) for name in found}
    return [name for name, step in steps.items() if not step or step[1] in whole]


@contextlib.contextmanager
def _linked(folder: Path, staging: Path) -> Iterator[dict[str, Path]]:
    """The checkpoint files as they are at one moment, held by links while the trainer replaces them.

    What it appends to is copied.
    """
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for _ in range(_TRIES):
            names = _checkpoint_files(folder)
            shutil.rmtree(staging, ignore_errors=True)
            try:
                for name in names:
                    (staging / name).parent.mkdir(parents=True, exist_ok=True)
                    (shutil.copyfile if name == ROWS else os.link)(folder / name, staging / name)
            except FileNotFoundError:
                continue  # one was replaced meanwhile
            if names == _checkpoint_files(folder):
                break
        else:
            raise OSError("the checkpoints change faster than they can be listed")
        yield {name: staging / name for name in names}
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _signature(path: Path) -> Signature:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _rows(path: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """(metrics of the whole lines from byte `start` on, where the next line begins). Torn lines are passed over."""
    if not path.is_file():
        return [], start
    with open(path, "rb") as file:
        file.seek(start)
        content = file.read()
    end = content.rfind(b"\n") + 1
    rows = []
    for line in content[:end].splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows, start + end


def _text(path: Path, start: int, most: int) -> tuple[str, int]:
    """(whole lines of text from byte `start` on, of at most `most` bytes; where the next piece begins)."""
    if not path.is_file():
        return "", start
    with open(path, "rb") as file:
        file.seek(start)
        content = file.read(most)
    end = content.rfind(b"\n") + 1 or len(content)
    return content[:end].decode("utf-8", errors="replace"), start + end
