"""The repositories of the hub with jobs: made, written to in commits, read, and deleted, as its answers to requests."""

import base64
import hashlib
import json
from dataclasses import dataclass, field


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
REPOSITORY_ROUTES = [
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
