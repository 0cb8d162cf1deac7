"""A hub with jobs on loopback, of the standard library only: repositories that take commits, and jobs that really run.

A job's command runs as a process of its own with its own home folder; `python3 -m pip` is noted and does nothing.
"""

import contextlib
import json
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import psutil

from tests.support.fake_jobs_repository import REPOSITORY_ROUTES, Repo

TOKEN = "hf_verySecretToken"
HARDWARE = [
    {
        "name": "a100x4",
        "prettyName": "4x Nvidia A100",
        "cpu": "48 vCPU",
        "ram": "568 GB",
        "accelerator": {
            "type": "gpu",
            "model": "A100",
            "quantity": "4",
            "vram": "320 GB",
            "manufacturer": "Nvidia",
        },
        "unitCostMicroUSD": 166667,
        "unitCostUSD": 0.166667,
        "unitLabel": "minute",
    },
    {
        "name": "cpu-basic",
        "prettyName": "CPU Basic",
        "cpu": "2 vCPU",
        "ram": "16 GB",
        "accelerator": None,
        "unitCostMicroUSD": 167,
        "unitCostUSD": 0.000167,
        "unitLabel": "minute",
    },
]
_PROCESSOR = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "NANOCHAT_MARCH")
_MARK = "FAKE_JOB"


@dataclass
class FakeJob:
    """A job, as it was asked for and as it is."""

    id: str
    spec: dict
    folder: Path
    stage: str = "SCHEDULING"
    message: str | None = None

    def stated(self) -> dict:
        spec = {key: value for key, value in self.spec.items() if key != "secrets"}
        status = {"stage": self.stage, "message": self.message}
        return {"id": self.id, "owner": {"id": "1", "name": "me", "type": "user"}, "status": status, **spec}

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(_MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def kill(self) -> None:
        """As when a container is taken away: every process of it ends at once."""
        while found := self.processes():
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(found, timeout=5)


class FakeJobs:
    """State of the hub. Everything is in memory but the jobs' folders, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.jobs: list[FakeJob] = []
        self.requests: list[str] = []
        """Method and path of every request."""
        self.refusals: list[tuple[str, int, dict[str, str]]] = []
        """(pattern of "METHOD path", status, headers): what is refused."""
        self.lost_answers: list[str] = []
        """Patterns of requests that are done but whose answer never comes; each once."""
        self.damaged: set[str] = set()
        """Paths of files that arrive with a bit flipped."""
        self.stuck: tuple[str, str | None] | None = None
        """(stage, message) that new jobs have for good, instead of running."""
        self.log_lines: list[str] = []
        """What a stuck job has printed."""
        self.environment: dict[str, str] = {}
        """More of it for the jobs' processes."""
        self.first_machine = ("machine-0:29400", "127.0.0.1:29400")
        """How jobs of a network reach the first one, and what that means here."""
        self.url = ""
        self.lock = threading.RLock()

    @property
    def repo(self) -> Repo:
        """The only repository."""
        (repo,) = self.repos.values()
        return repo

    @property
    def repo_name(self) -> str:
        (name,) = self.repos
        return name

    def start(self, spec: dict) -> FakeJob:
        number = len(self.jobs) + 1
        job = FakeJob(f"job{number:04d}", spec, self.folder / f"job{number:04d}")
        self.jobs.append(job)
        if self.stuck:
            job.stage, job.message = self.stuck
            return job
        job.folder.mkdir(parents=True)
        _write_python(job.folder / "bin")
        environment = {
            "PATH": f"{job.folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(job.folder),
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_XET": "1",
            "OMP_NUM_THREADS": "1",
            _MARK: str(job.folder),  # other tests have a job of this id too
            # The job computes as the test does, bit for bit, also where the processor is made to look like another.
            **{name: os.environ[name] for name in _PROCESSOR if name in os.environ},
            **self.environment,
            **spec["environment"],
            **spec.get("secrets", {}),
        }
        with open(job.folder / "log.txt", "wb") as log:
            process = subprocess.Popen(
                [part.replace(*self.first_machine) for part in spec["command"]],
                cwd=job.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        job.stage = "RUNNING"
        threading.Thread(target=self._collect, args=(job, process), daemon=True).start()
        return job

    def _collect(self, job: FakeJob, process: subprocess.Popen) -> None:
        status = process.wait()
        if job.stage == "RUNNING":
            job.stage = "COMPLETED" if status == 0 else "ERROR"
            job.message = None if status == 0 else f"Job failed with exit code: {status}"

    def end(self, job: FakeJob, stage: str, message: str | None = None) -> None:
        """The platform ends the job, harshly."""
        job.stage, job.message = stage, message
        job.kill()

    def log(self, job: FakeJob) -> list[str]:
        path = job.folder / "log.txt"
        return path.read_text().splitlines() if path.is_file() else self.log_lines


def _write_python(folder: Path) -> None:
    """The image's python3: ours, but that nothing is installed."""
    folder.mkdir()
    path = folder / "python3"
    noted = folder.parent / "pip.txt"
    path.write_text(
        f'#!/bin/sh\nif [ "$1 $2" = "-m pip" ]; then echo "$@" >> {noted}; exit 0; fi\nexec {sys.executable} "$@"\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@contextlib.contextmanager
def serving(hub: FakeJobs) -> Iterator[FakeJobs]:
    """Answer requests on a free port of 127.0.0.1 while the block runs; every job is ended after it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            _answer(hub, self)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # a client that was killed

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        for job in hub.jobs:
            job.kill()
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(hub: FakeJobs, request: BaseHTTPRequestHandler) -> None:
    parts = urlsplit(request.path)
    path = unquote(parts.path)
    body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    line = f"{request.command} {path}"
    hub.requests.append(line)
    for pattern, status, headers in hub.refusals:
        if re.search(pattern, line):
            return _send(request, status, b"{}", headers)
    is_public = path in ("/api/jobs/hardware",) or path.startswith("/large/")
    if not is_public and request.headers.get("Authorization") != f"Bearer {TOKEN}":
        return _send(request, 401, b"{}", {})
    with hub.lock:
        for pattern, handle in _ROUTES:
            if match := re.fullmatch(pattern, line):
                status, content, headers = handle(hub, *match.groups(), body=body, query=parse_qs(parts.query))
                break
        else:
            status, content, headers = 404, {}, {}
    for pattern in hub.lost_answers:
        if re.search(pattern, line):
            hub.lost_answers.remove(pattern)
            request.close_connection = True
            return request.connection.close()
    return _send(request, status, content if isinstance(content, bytes) else json.dumps(content).encode(), headers)


def _send(request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for key, value in {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}.items():
        request.send_header(key, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)


# Answers: each takes (hub, groups of its pattern, body, query) and gives (status, content, headers)


def _whoami(hub, body, query):
    return 200, {"name": "me", "type": "user"}, {}


def _hardware(hub, body, query):
    return 200, HARDWARE, {}


def _start_job(hub, namespace, body, query):
    return 200, hub.start(json.loads(body)).stated(), {}


def _list_jobs(hub, namespace, body, query):
    wanted = dict(label.split("=", 1) for label in query.get("label", []))
    return 200, [job.stated() for job in hub.jobs if wanted.items() <= job.spec.get("labels", {}).items()], {}


def _job(hub, namespace, name, body, query):
    job = next((job for job in hub.jobs if job.id == name), None)
    return (200, job.stated(), {}) if job else (404, {}, {})


def _cancel(hub, namespace, name, body, query):
    job = next(job for job in hub.jobs if job.id == name)
    hub.end(job, "CANCELED")
    return 200, job.stated(), {}


def _logs(hub, namespace, name, body, query):
    job = next(job for job in hub.jobs if job.id == name)
    lines = ["===== Job started =====", *hub.log(job)]
    events = [{"timestamp": "2026-01-01T00:00:00.000Z", "data": line} for line in lines]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return 200, text.encode(), {"Content-Type": "text/event-stream"}


_ROUTES = [
    (r"GET /api/whoami-v2", _whoami),
    (r"GET /api/jobs/hardware", _hardware),
    (r"POST /api/jobs/([^/]+)", _start_job),
    (r"GET /api/jobs/([^/]+)", _list_jobs),
    (r"GET /api/jobs/([^/]+)/([^/]+)", _job),
    (r"POST /api/jobs/([^/]+)/([^/]+)/cancel", _cancel),
    (r"GET /api/jobs/([^/]+)/([^/]+)/logs", _logs),
    *REPOSITORY_ROUTES,
]


def until(condition, seconds=300, every=0.2):
    """Wait for something that must happen; the limit is only there to end a broken test."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(every)
    return found
