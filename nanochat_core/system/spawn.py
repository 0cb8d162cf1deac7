"""The one way in which a process of ours starts another: environment, session, input and output."""

import os
import re
import subprocess
import threading
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import IO

from nanochat_core.paths import checkout, home

_SECRET = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|AUTH|(API|ACCESS|SECRET|PRIVATE)_?KEY|KEY)$"
    r"|(^|_)(OAUTH|SECRET|PASSWORD)_",
    re.IGNORECASE,
)

Stream = int | IO[bytes] | None


def spawn(  # noqa: PLR0913  all but the first are options, most of them by name only
    command: Sequence[str],
    variables: Mapping[str, str | None] | None = None,
    *,
    folder: Path | None = None,
    secrets: bool = False,
    stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = subprocess.DEVNULL,
    stderr: Stream = subprocess.STDOUT,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, so that Ctrl-C or the end of our terminal does not reach it.

    variables: added to the child's environment; None takes one out. folder: where it works, ours by default.
    A child that is to outlive us writes into a file: a pipe would end it with us.
    """
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        env=child_environment(variables or {}, secrets=secrets),
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same for Windows
    )


def child_environment(variables: Mapping[str, str | None], *, secrets: bool = False) -> dict[str, str]:
    """Our environment plus what makes a child independent of the folder it is started in, then `variables`.

    Without `secrets`, nothing of ours whose name says that it is one: a child that runs a stranger's model or reads a
    stranger's file has no use for them.
    """
    paths = [str(checkout() or ""), os.environ.get("PYTHONPATH", "")]
    environment = {
        **{name: value for name, value in os.environ.items() if secrets or not is_secret(name)},
        "NANOCHAT_STUDIO_HOME": str(home()),  # absolute: a relative one would mean another folder there
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONSAFEPATH": "1",  # a file in that folder must not pass for a module
    }
    share_cores(environment)
    for name, value in variables.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


def is_secret(name: str) -> bool:
    """Whether an environment variable of this name holds a secret, such as HF_TOKEN or OAUTH_CLIENT_SECRET."""
    return bool(_SECRET.search(name))


def collect(process: subprocess.Popen[bytes]) -> None:
    """Wait for `process` in a thread of its own, so that it leaves no zombie when it ends."""
    threading.Thread(target=process.wait, name=f"collect-{process.pid}", daemon=True).start()


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Let OpenMP's threads sleep instead of spin while they wait. To be set before torch is loaded.

    Spinning gains little on an idle machine. On a busy one the thread that is waited for does not get a core
    because the others burn it: with one other busy process on two cores a training step of the practice model's
    shape took more than 20 s spinning and 2 to 4 s asleep.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
