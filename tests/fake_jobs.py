"""A hub with jobs on loopback, of the standard library only: repositories that take commits, and jobs that really run.

A job's command runs as a process of its own with its own home folder; `python3 -m pip` is noted and does nothing.
"""

import base64
import contextlib
import hashlib
import json
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import psutil

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
_MARK = "FAKE_JOB"


@dataclass
class Repo:
    """A repository: what each commit holds, the newest last."""

    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])
    """Empty where the history was squashed."""

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]

    def at(self, revision: str) -> dict[str, bytes]:
        return self.files if revision == "main" else self.commits[int(revision, 16)]

    @property
    def head(self) -> str:
        return f"{len(self.commits) - 1:040x}"


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
            **self.environment,
            **spec["environment"],
            **spec.get("secrets", {}),
        }
        with open(job.folder / "log.txt", "wb") as log:
            process = subprocess.Popen(
                spec["command"],
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


def _create(hub, body, query):
    values = json.loads(body)
    name = f"{values.get('organization') or 'me'}/{values['name']}"
    if name in hub.repos:
        return 409, {}, {}
    hub.repos[name] = Repo(values.get("visibility") == "private" or values.get("private") is True)
    return 200, {"url": f"{hub.url}/{name}"}, {}


def _delete(hub, body, query):
    values = json.loads(body)
    hub.repos.pop(f"{values.get('organization') or 'me'}/{values['name']}", None)
    return 200, {}, {}


def _is_large(path: str) -> bool:
    return path.endswith((".pt", ".pkl"))


def _oid(path: str, content: bytes) -> str:
    """The git name: of a large file's pointer, or of the content."""
    if _is_large(path):
        sha256 = hashlib.sha256(content).hexdigest()
        content = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _preupload(hub, repo, revision, body, query):
    if repo not in hub.repos:
        return 404, {}, {"X-Error-Code": "RepoNotFound"}
    present = hub.repos[repo].files
    files = []
    for file in json.loads(body)["files"]:
        path = file["path"]
        oid = None
        if path in present:
            is_large = _is_large(path)
            oid = hashlib.sha256(present[path]).hexdigest() if is_large else _oid(path, present[path])
        mode = "lfs" if _is_large(path) else "regular"
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return 200, {"files": files}, {}


def _batch(hub, repo, body, query):
    objects = []
    for item in json.loads(body)["objects"]:
        upload = {"upload": {"href": f"{hub.url}/large/{item['oid']}", "header": {}}}
        objects.append(item if item["oid"] in hub.large else {**item, "actions": upload})
    return 200, {"transfer": "basic", "objects": objects}, {}


def _put_large(hub, oid, body, query):
    assert hashlib.sha256(body).hexdigest() == oid
    hub.large[oid] = body
    return 200, {}, {}


def _commit(hub, repo, revision, body, query):
    files = dict(hub.repos[repo].files)
    for line in body.splitlines():
        item = json.loads(line)
        value = item["value"]
        if item["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif item["key"] == "lfsFile":
            files[value["path"]] = hub.large[value["oid"]]
        elif item["key"] == "deletedFile":
            del files[value["path"]]
    hub.repos[repo].commits.append(files)
    oid = hub.repos[repo].head
    return 200, {"commitUrl": f"{hub.url}/{repo}/commit/{oid}", "commitOid": oid, "success": True}, {}


def _squash(hub, repo, revision, body, query):
    commits = hub.repos[repo].commits
    commits[:] = [*({} for _ in commits), commits[-1]]
    return 200, {}, {}


def _info(hub, repo, revision, body, query):
    if repo not in hub.repos:
        return 404, {}, {"X-Error-Code": "RepoNotFound"}
    return 200, {"id": repo, "sha": hub.repos[repo].head, "private": hub.repos[repo].private}, {}


def _tree(hub, repo, revision, folder, body, query):
    if repo not in hub.repos:
        return 404, {}, {"X-Error-Code": "RepoNotFound"}
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    files = {path: content for path, content in hub.repos[repo].at(revision).items() if path.startswith(prefix)}
    if not files and prefix:
        return 404, {}, {"X-Error-Code": "EntryNotFound"}
    if query.get("recursive", ["false"])[0].lower() != "true":
        files = {path: content for path, content in files.items() if "/" not in path[len(prefix) :]}
    entries = []
    for path, content in files.items():
        entry = {"type": "file", "path": path, "size": len(content), "oid": _oid(path, content)}
        if _is_large(path):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        entries.append(entry)
    return 200, entries, {}


def _file(hub, repo, revision, path, body, query):
    if repo not in hub.repos or path not in hub.repos[repo].at(revision):
        return 404, {}, {"X-Error-Code": "EntryNotFound" if repo in hub.repos else "RepoNotFound"}
    content = hub.repos[repo].at(revision)[path]
    etag = hashlib.sha256(content).hexdigest() if _is_large(path) else _oid(path, content)
    commit = hub.repos[repo].head if revision == "main" else revision
    if path in hub.damaged:
        content = bytes([content[0] ^ 1]) + content[1:]
    return 200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Content-Type": "application/octet-stream"}


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    (r"GET /api/whoami-v2", _whoami),
    (r"GET /api/jobs/hardware", _hardware),
    (r"POST /api/jobs/([^/]+)", _start_job),
    (r"GET /api/jobs/([^/]+)", _list_jobs),
    (r"GET /api/jobs/([^/]+)/([^/]+)", _job),
    (r"POST /api/jobs/([^/]+)/([^/]+)/cancel", _cancel),
    (r"GET /api/jobs/([^/]+)/([^/]+)/logs", _logs),
    (r"POST /api/repos/create", _create),
    (r"DELETE /api/repos/delete", _delete),
    (rf"POST /api/models/{_NAME}/preupload/([^/]+)", _preupload),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", _batch),
    (r"PUT /large/(\w+)", _put_large),
    (rf"POST /api/models/{_NAME}/commit/([^/]+)", _commit),
    (rf"POST /api/models/{_NAME}/super-squash/([^/]+)", _squash),
    (rf"GET /api/models/{_NAME}/revision/([^/]+)", _info),
    (rf"GET /api/models/{_NAME}/tree/([^/]+)(.*)", _tree),
    (rf"(?:GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)", _file),
]


def until(condition, seconds=300, every=0.2):
    """Wait for something that must happen; the limit is only there to end a broken test."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(every)
    return found
