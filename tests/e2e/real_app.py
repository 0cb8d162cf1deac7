"""The real app in a process of its own, on a free port of this machine, with a home folder of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 240


@dataclass
class RealApp:
    """Start, kill, and start again; `url` stays the same."""

    home: Path
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen | None = None
    entry: tuple[str, ...] = ("app.py",)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return (self.home / "app.log").read_text(encoding="utf-8", errors="replace")

    def start(self, *arguments: str) -> "RealApp":
        """Start app.py and wait until it answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "NANOCHAT_STUDIO_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        with open(self.home / "app.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.entry, "--port", str(self.port), *arguments],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        limit = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, f"the app ended: {self.output}"
            assert time.monotonic() < limit, f"the app does not answer: {self.output}"
            time.sleep(0.1)
        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/config", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
