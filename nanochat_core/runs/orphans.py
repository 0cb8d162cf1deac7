"""A training process whose launcher is gone ends itself: nobody else would, and it would hold the device for ever."""

import json
import os
import threading
import time
from collections.abc import Callable

from nanochat_core.system.processes import ProcessIdentity, identity, is_alive

LAUNCHER_VARIABLE = "NANOCHAT_STUDIO_LAUNCHER"
"""Environment variable in which the launcher hands its identity to the processes that it starts."""

ORPHAN_EXIT_STATUS = 75
_LOOK_EVERY_SECONDS = 0.5


def announce_launcher() -> None:
    """Called by a launcher: name this process to those it starts from now on."""
    os.environ[LAUNCHER_VARIABLE] = json.dumps(identity().to_dict())


def launcher_from_environment() -> ProcessIdentity | None:
    """The launcher of this process; None when it was started by hand."""
    text = os.environ.get(LAUNCHER_VARIABLE)
    return ProcessIdentity.from_dict(json.loads(text)) if text else None


def watch_launcher(
    launcher: ProcessIdentity | None, on_gone: Callable[[], object], grace_seconds: float = 60.0
) -> threading.Thread | None:
    """Watch `launcher` from a thread; when it is gone, call `on_gone` once, and end this process after the grace.

    on_gone asks for save-and-stop and must return at once; it runs in the watching thread. The hard end (exit status
    75, no clean-up) is for a process that hangs in a collective operation whose other side is gone, too.
    None, a process that was started by hand, is not watched.
    """
    if launcher is None:
        return None
    thread = threading.Thread(
        target=_watch, args=(launcher, on_gone, grace_seconds), name="launcher-watch", daemon=True
    )
    thread.start()
    return thread


def _watch(launcher: ProcessIdentity, on_gone: Callable[[], object], grace_seconds: float) -> None:
    while is_alive(launcher):
        time.sleep(_LOOK_EVERY_SECONDS)
    print(f"The launcher (pid {launcher.pid}) is gone: saving and stopping.", flush=True)
    try:
        on_gone()
    finally:
        time.sleep(grace_seconds)
        print(f"Not stopped after {grace_seconds:g} s: ending now.", flush=True)
        os._exit(ORPHAN_EXIT_STATUS)
