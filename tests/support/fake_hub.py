"""A hub on loopback, of the standard library only: what the real client asks of it, and faults on request.

It holds one repository, of a model or of a dataset, which can be read, made, and written to.
"""

import contextlib
import hashlib
import json
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tests.support.fake_hub_writing import answer_writing


class FakeHub:
    """Serves one repository. `files` maps its paths to bytes; large ones (by their ending) are stated as LFS files."""

    def __init__(self, repo: str, files: dict[str, bytes] | None = None, repo_type: str = "model") -> None:
        self.repo = repo
        self.repo_type = repo_type
        self.files = files or {}
        self.exists = files is not None
        self.visibility = "public"
        self.requests: list[str] = []
        """Method and path of every request."""
        self.ranges: list[tuple[str, int]] = []
        """(file, first byte) of every request for a part of a file."""
        self.sent: Counter[str] = Counter()
        """Bytes of each file that were sent."""
        self.refusal: tuple[int, dict[str, str]] | None = None
        """(status, headers) answered to every request for the repository."""
        self.refuses_files_only = False
        """The refusal holds for contents only: of a gated repository everybody sees the listing."""
        self.captive = False
        """Every request is answered by the sign-in page of a network."""
        self.damaged: set[str] = set()
        """Files that are sent with one bit flipped."""
        self.cut: dict[str, list[int]] = {}
        """File -> offsets in it at which its next connections break."""
        self.hanging: set[str] = set()
        """Files of which half is sent, and no more until the client is gone."""
        self.is_sending_half = threading.Event()
        """Set when a client was left hanging."""
        self.token: str | None = None
        """What a client must show to write, or to see a private repository; None: nothing."""
        self.commits: list[dict] = []
        """What was written: summary, paths added, paths deleted."""
        self.refused_commits: list[int] = []
        """Statuses with which the next commits are refused."""
        self.holds_commits = False
        """Commits are not answered until the client is gone."""
        self.uploads: dict[str, bytes] = {}
        """Large files by SHA-256, before they are committed."""
        self.bodies: list[bytes] = []
        """Every body that was sent here."""
        self.url = ""
        self._salt = secrets.token_hex(20)

    @property
    def commit(self) -> str:
        """Another one for other files, and in each test: clients remember what they have seen of a commit."""
        content = [self._salt, *sorted((path, hash(content)) for path, content in self.files.items())]
        return hashlib.sha1(repr(content).encode()).hexdigest()

    def sha256(self, path: str) -> str:
        return hashlib.sha256(self.files[path]).hexdigest()

    def git_sha1(self, path: str) -> str:
        content = self.files[path]
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @staticmethod
    def is_large(path: str) -> bool:
        return path.endswith((".pt", ".pkl", ".safetensors", ".parquet", ".png"))

    def tree(self, folder: str = "") -> list[dict]:
        """The listing of all files below `folder`, as the hub's tree endpoint gives it."""
        entries = []
        for path, content in self.files.items():
            if not path.startswith(folder):
                continue
            entry = {"type": "file", "path": path, "size": len(content), "oid": self.git_sha1(path)}
            if self.is_large(path):
                entry["oid"] = "f" * 40  # git's name of the pointer
                entry["lfs"] = {"oid": self.sha256(path), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        return [*entries, {"type": "directory", "path": "images", "oid": "0" * 40, "size": 0}]

    @property
    def api(self) -> str:
        return f"/api/{self.repo_type}s/{self.repo}"

    @property
    def contents(self) -> str:
        prefix = "" if self.repo_type == "model" else f"/{self.repo_type}s"
        return f"{prefix}/{self.repo}/resolve/{self.commit}/"

    def downloads(self) -> list[str]:
        """Files whose content was asked for, in order."""
        asked = f"GET {self.contents}"
        return [line.removeprefix(asked) for line in self.requests if line.startswith(asked)]

    def lets_see(self, authorization: str | None) -> bool:
        is_owner = self.token is None or authorization == f"Bearer {self.token}"
        return self.exists and (self.visibility == "public" or is_owner)


@contextlib.contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Answer requests on a free port of 127.0.0.1 while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(hub, self, with_body=True)

        def do_HEAD(self) -> None:
            _answer(hub, self, with_body=False)

        def do_POST(self) -> None:
            _write(hub, self)

        def do_PUT(self) -> None:
            _write(hub, self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(hub: FakeHub, request: BaseHTTPRequestHandler, with_body: bool) -> None:
    path = unquote(urlsplit(request.path).path)
    hub.requests.append(f"{request.command} {path}")
    of_api = path == hub.api or path.startswith(f"{hub.api}/")
    if hub.captive:
        _send(request, 200, {"Content-Type": "text/html"}, b"<!doctype html><title>Welcome</title>", with_body)
    elif not (of_api or path.startswith(hub.contents)) or not hub.lets_see(request.headers["Authorization"]):
        headers = {"X-Error-Code": "RepoNotFound"} if path.startswith(f"/api/{hub.repo_type}s/") else {}
        _send(request, 404, headers, b"", with_body)
    elif hub.refusal and not (of_api and hub.refuses_files_only):
        _send(request, hub.refusal[0], hub.refusal[1], b"", with_body)
    elif of_api:
        tree = f"{hub.api}/tree/{hub.commit}"
        info = {"id": hub.repo, "sha": hub.commit, "private": hub.visibility == "private"}
        value = hub.tree(path.removeprefix(tree).strip("/")) if path.startswith(tree) else info
        _send(request, 200, {"Content-Type": "application/json"}, json.dumps(value).encode(), with_body)
    elif (name := path.removeprefix(hub.contents)) in hub.files:
        _send_file(hub, request, name, with_body)
    else:
        _send(request, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": hub.commit}, b"", with_body)


def _send_file(hub: FakeHub, request: BaseHTTPRequestHandler, name: str, with_body: bool) -> None:
    content = hub.files[name]
    etag = hub.sha256(name) if hub.is_large(name) else hub.git_sha1(name)
    if name in hub.damaged:
        content = bytes([content[0] ^ 1]) + content[1:]
    first, last = _range(request.headers["Range"], len(content))
    status = 206 if request.headers["Range"] else 200
    headers = {"ETag": f'"{etag}"', "X-Repo-Commit": hub.commit, "Content-Length": str(last - first)}
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{last - 1}/{len(content)}"
        hub.ranges.append((name, first))
    end = last
    if with_body and name in hub.hanging:
        end = len(content) // 2
    elif with_body and hub.cut.get(name) and first < hub.cut[name][0]:
        end = min(last, hub.cut[name].pop(0))
    _send(request, status, headers, content[first:end], with_body)
    hub.sent[name] += end - first if with_body else 0
    if end < last and with_body:
        request.wfile.flush()
        if name in hub.hanging:
            hub.is_sending_half.set()
            request.connection.recv(1)  # until the client is gone
        request.close_connection = True


def _range(header: str | None, size: int) -> tuple[int, int]:
    """(first byte, byte after the last) that a request asks for."""
    if not header:
        return 0, size
    first, _, last = header.removeprefix("bytes=").partition("-")
    return int(first), min(size, int(last) + 1) if last else size


def _write(hub: FakeHub, request: BaseHTTPRequestHandler) -> None:
    path = unquote(urlsplit(request.path).path)
    hub.requests.append(f"{request.command} {path}")
    body = _body(request)
    hub.bodies.append(body)
    if hub.holds_commits and path == f"{hub.api}/commit/main":
        hub.is_sending_half.set()
        request.connection.recv(1)
        request.close_connection = True
        return
    may_write = hub.token is None or request.headers["Authorization"] == f"Bearer {hub.token}"
    if hub.refusal:
        _send(request, *hub.refusal, b"", True)
    elif not may_write and not path.startswith("/upload/"):  # the address of an upload is itself the permission
        _send(request, 401, {"X-Error-Message": "Invalid username or password."}, b"{}", True)
    else:
        status, value = answer_writing(hub, path, body)
        _send(request, status, {"Content-Type": "application/json"}, json.dumps(value).encode(), True)


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers["Transfer-Encoding"] != "chunked":
        return request.rfile.read(int(request.headers["Content-Length"] or 0))
    parts = []
    while size := int(request.rfile.readline(), 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)


def _send(
    request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes, with_body: bool
) -> None:
    request.send_response(status)
    for key, value in {"Content-Length": str(len(content)), **headers}.items():
        request.send_header(key, value)
    request.end_headers()
    if with_body:
        request.wfile.write(content)
