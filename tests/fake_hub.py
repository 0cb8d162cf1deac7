"""A hub on loopback, of the standard library only: what the real client asks of it, and faults on request."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves one repository. `files` maps its paths to bytes; large ones (.pt, .pkl) are stated as LFS files."""

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        self.repo = repo
        self.files = files
        self.requests: list[str] = []
        """Method and path of every request."""
        self.refusal: tuple[int, dict[str, str]] | None = None
        """(status, headers) answered to every request for the repository."""
        self.damaged: set[str] = set()
        """Files that are sent with one bit flipped."""
        self.cut: dict[str, int] = {}
        """File -> how many more times its connection is cut in the middle."""
        self.hanging: set[str] = set()
        """Files of which half is sent, and no more until the client is gone."""
        self.is_sending_half = threading.Event()
        self.url = ""

    def sha256(self, path: str) -> str:
        return hashlib.sha256(self.files[path]).hexdigest()

    def git_sha1(self, path: str) -> str:
        content = self.files[path]
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def is_large(self, path: str) -> bool:
        return path.endswith((".pt", ".pkl"))

    def tree(self) -> list[dict]:
        """The listing of all files, as the hub's tree endpoint gives it."""
        entries = []
        for path, content in self.files.items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": self.git_sha1(path)}
            if self.is_large(path):
                entry["lfs"] = {"oid": self.sha256(path), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        return [*entries, {"type": "directory", "path": "images", "oid": "0" * 40, "size": 0}]

    def downloads(self) -> list[str]:
        """Files whose content was asked for, in order."""
        return [
            line.rpartition(f"/{COMMIT}/")[2] for line in self.requests if line.startswith(f"GET /{self.repo}/resolve")
        ]


@contextlib.contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Answer requests on a free port of 127.0.0.1 while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(hub, self, with_body=True)

        def do_HEAD(self) -> None:
            _answer(hub, self, with_body=False)

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
    if path.startswith(f"/{hub.repo}/resolve/{COMMIT}/") or path.startswith(f"/api/models/{hub.repo}/"):
        if hub.refusal:
            _send(request, hub.refusal[0], hub.refusal[1], b"", with_body)
        elif path.startswith("/api/"):
            is_tree = path.endswith(f"/tree/{COMMIT}")
            _send_json(request, hub.tree() if is_tree else {"id": hub.repo, "sha": COMMIT}, with_body)
        else:
            _send_file(hub, request, path.rpartition(f"/{COMMIT}/")[2], with_body)
    elif path.startswith("/api/models/"):
        _send(request, 404, {"X-Error-Code": "RepoNotFound"}, b"", with_body)
    else:
        _send(request, 404, {}, b"", with_body)


def _send_json(request: BaseHTTPRequestHandler, value: object, with_body: bool) -> None:
    _send(request, 200, {"Content-Type": "application/json"}, json.dumps(value).encode(), with_body)


def _send_file(hub: FakeHub, request: BaseHTTPRequestHandler, name: str, with_body: bool) -> None:
    content = hub.files[name]
    etag = hub.sha256(name) if hub.is_large(name) else hub.git_sha1(name)
    headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))}
    if name in hub.damaged:
        content = bytes([content[0] ^ 1]) + content[1:]
    if not with_body or not (hub.cut.get(name) or name in hub.hanging):
        _send(request, 200, headers, content, with_body)
        return
    _send(request, 200, headers, content[: len(content) // 2], with_body)
    request.wfile.flush()
    if name in hub.hanging:
        hub.is_sending_half.set()
        request.connection.recv(1)  # until the client is gone
    else:
        hub.cut[name] -= 1
    request.close_connection = True


def _send(
    request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes, with_body: bool
) -> None:
    request.send_response(status)
    for key, value in {"Content-Length": str(len(content)), **headers}.items():
        request.send_header(key, value)
    request.end_headers()
    if with_body:
        request.wfile.write(content)
