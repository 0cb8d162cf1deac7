"""Runs that wait for the present one: a list in a file, and a thread of the app that starts the next."""

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import finetuned_dir, home
from nanochat_core.system.files import write_json
from nanochat_core.system.folder_names import check_tag
from studio.runs import launching

LOOK_EVERY_SECONDS = 2.0


@dataclass(frozen=True)
class Waiting:
    """One run in the queue."""

    config: dict[str, Any]
    nproc: int = 1
    devices: str = ""
    error: str = ""
    """Why it could not be started; it then waits for a person."""

    @property
    def tag(self) -> str:
        return str(self.config.get("output_tag", ""))


def waiting() -> list[Waiting]:
    """The queue, next first."""
    try:
        entries = json.loads(_file().read_text(encoding="utf-8"))
        return [Waiting(**entry) for entry in entries["waiting"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"The queue in {_file()} cannot be read ({error}). Delete that file to start over.") from error


def add(config: FinetuneConfig, nproc: int = 1, devices: str = "") -> None:
    """Put a run at the end. ValueError when its name is taken."""
    tag = check_tag(config.output_tag)
    with _locked():
        present = waiting()
        if tag in [one.tag for one in present] or (finetuned_dir() / tag).exists():
            raise ValueError(f"There is already a run '{tag}', or one waits under this name. Choose another name.")
        _write([*present, Waiting(config.with_absolute_paths().to_dict(), nproc, devices)])


def remove(tag: str) -> None:
    """Take a run out; nothing happens when it is not there any more."""
    with _locked():
        _write([one for one in waiting() if one.tag != tag])


def start_next() -> str:
    """Start the first run that can be, when none trains. Returns its tag, "" when nothing was to be done."""
    if not any(not one.error for one in waiting()) or launching.active_run() is not None:
        return ""
    with _locked():
        present = waiting()
        number = next((i for i, one in enumerate(present) if not one.error), None)
        if number is None:
            return ""
        one = present.pop(number)
        try:
            launching.start(FinetuneConfig.from_dict(one.config), one.nproc, one.devices)
        except (ValueError, OSError) as error:
            present.insert(number, Waiting(one.config, one.nproc, one.devices, str(error)))
            _write(present)
            return ""
        _write(present)
        return one.tag


def keep_going(stop: threading.Event) -> threading.Thread:
    """A thread that starts what waits, until `stop` is set. The queue itself outlives the app."""

    def loop() -> None:
        while not stop.wait(LOOK_EVERY_SECONDS):
            try:
                start_next()
            except ValueError:  # the file is broken; the tab shows the sentence
                continue

    thread = threading.Thread(target=loop, name="run-queue", daemon=True)
    thread.start()
    return thread


def _file() -> Path:
    return home() / "models" / "queue.json"


def _write(entries: list[Waiting]) -> None:
    write_json(_file(), {"waiting": [asdict(one) for one in entries]})


def _locked() -> FileLock:
    _file().parent.mkdir(parents=True, exist_ok=True)
    return FileLock(_file().with_name(".queue.lock"), timeout=60)
