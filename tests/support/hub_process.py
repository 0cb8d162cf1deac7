"""Running the real client against the hub on loopback.

In a process of its own, as the client reads the hub's address when it is imported.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def environment(hub, folder: Path, **more: str) -> dict[str, str]:
    """Ours without any login or setting of the hub's client, and with the hub on loopback."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}
    return kept | own | more


def run_program(hub, folder: Path, program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """`program` (Python), run to its end."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, env=environment(hub, folder, **more), capture_output=True, text=True, timeout=180, check=False
    )


def run_command(hub, folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """`python -m nanochat_core ...`, run to its end."""
    program = "import sys; from nanochat_core.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return run_program(hub, folder, program, *arguments, **more)


_COMMANDS = """
import contextlib, io, json, os, sys
from nanochat_core.cli.main import main
answers = sys.stdout
for line in sys.stdin:
    call = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    os.environ.update(call["environment"])
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            status = main(call["arguments"])
        except SystemExit as ended:
            status = ended.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""


class Terminal:
    """One process that runs one command after the other, since loading torch for each would take most of the time."""

    def __init__(self, hub, folder: Path, worker: str = _COMMANDS) -> None:
        """worker: a program that answers each line of JSON with one."""
        command = [sys.executable, "-c", worker]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment(hub, folder), stdin=pipe, stdout=pipe, text=True)

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """(exit status, standard output, standard error) of `python -m nanochat_core ...`."""
        status, out, err = self.ask({"arguments": arguments, "environment": variables})
        return status, out, err

    def ask(self, question: Any) -> Any:
        """The worker's answer."""
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)
