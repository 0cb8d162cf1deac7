"""Runs that wait for the present one: a list in a file, and a thread of the app that starts the next."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import finetuned_dir, home
from nanochat_core.system.files import write_json
from nanochat_core.system.folder_names import check_tag
from studio.runs import launching

LOOK_EVERY_SECONDS = 2.0
_trouble = [""]


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


def trained_from(tag: str) -> list[str]:
    """The runs in the queue that are to begin with the model of run `tag`."""
    return [one.tag for one in waiting() if one.config.get("from_finetuned") == tag]


def rename_base(old: str, new: str) -> None:
    """Those that are to begin with the model of run `old` find it under its new name."""
    if trained_from(old):
        with _locked():
            found = [
                replace(one, config={**one.config, "from_finetuned": new})
                if one.config.get("from_finetuned") == old
                else one
                for one in waiting()
            ]
            _write(found)


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
        except launching.Busy:  # another program was quicker: it goes on waiting
            return ""
        except (ValueError, OSError) as error:
            present.insert(number, Waiting(one.config, one.nproc, one.devices, str(error)))
            _write(present)
            return ""
        _write(present)
        return one.tag


def keep_going(stop: threading.Event) -> threading.Thread:
    """A thread that starts what waits, until `stop` is set. The queue itself outlives the app.

    Of several apps with one home the first owns the queue, for as long as it lives; the others only add to it. What
    goes wrong is told by `trouble` and tried again: a full disk or a lost share may be there again.
    """

    def loop() -> None:
        while not stop.wait(LOOK_EVERY_SECONDS):
            try:
                with _owned():
                    while not stop.wait(LOOK_EVERY_SECONDS):
                        start_next()
                        _trouble[0] = ""
            except Timeout:  # another app owns it
                continue
            except (ValueError, OSError) as error:
                _trouble[0] = f"The queue cannot go on: {error}. It is tried again every few seconds."

    thread = threading.Thread(target=loop, name="run-queue", daemon=True)
    thread.start()
    return thread


def trouble() -> str:
    """What keeps the queue of this app from going on, as one sentence; "" while all is well."""
    return _trouble[0]


@contextlib.contextmanager
def _owned() -> Iterator[None]:
    """Within it, this app is the one that starts what waits. Timeout while another one is."""
    _file().parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_file().with_name(".queue-owner.lock"), timeout=0):
        yield


def _file() -> Path:
    return home() / "models" / "queue.json"


def _write(entries: list[Waiting]) -> None:
    write_json(_file(), {"waiting": [asdict(one) for one in entries]})


def _locked() -> FileLock:
    _file().parent.mkdir(parents=True, exist_ok=True)
    return FileLock(_file().with_name(".queue.lock"), timeout=60)
