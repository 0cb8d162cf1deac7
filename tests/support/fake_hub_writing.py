"""The writing half of the hub on loopback: making the repository, sending large files, committing."""

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.fake_hub import FakeHub


def answer_writing(hub: "FakeHub", path: str, body: bytes) -> tuple[int, Any]:
    """(status, JSON) for a POST or PUT by somebody who may write."""
    if path == "/api/repos/create":
        return _create(hub, json.loads(body))
    if path == "/api/validate-yaml":
        content = json.loads(body)["content"]
        is_right = content.startswith("---\n") and "\n---\n" in content[4:]
        return (200 if is_right else 400), {"errors": [] if is_right else [{"message": "no front matter"}]}
    if path.startswith("/upload/"):
        sha256 = path.removeprefix("/upload/")
        if hashlib.sha256(body).hexdigest() != sha256:
            return 400, {"error": "not the content that was announced"}
        hub.uploads[sha256] = body
        return 200, {}
    if not hub.exists:
        return 404, {"error": "Repository not found"}
    if path == f"{hub.api}/preupload/main":
        return 200, {"files": [_upload_mode(hub, file) for file in json.loads(body)["files"]]}
    if path.endswith(".git/info/lfs/objects/batch"):
        return 200, {"objects": [_upload_address(hub, thing) for thing in json.loads(body)["objects"]]}
    if path == f"{hub.api}/commit/main":
        if hub.refused_commits:
            return hub.refused_commits.pop(0), {"error": "not now"}
        return _commit(hub, [json.loads(line) for line in body.splitlines()])
    return 404, {"error": f"unknown: {path}"}


def _create(hub: "FakeHub", wish: dict) -> tuple[int, Any]:
    assert f"{wish['organization']}/{wish['name']}" == hub.repo, wish
    if hub.exists:
        return 409, {"error": "You already created this repo", "url": f"{hub.url}/{hub.repo}"}
    hub.exists = True
    hub.visibility = wish.get("visibility", "public")
    return 200, {"url": f"{hub.url}/{hub.repo}"}


def _upload_mode(hub: "FakeHub", file: dict) -> dict:
    path = file["path"]
    known = (hub.sha256(path) if hub.is_large(path) else hub.git_sha1(path)) if path in hub.files else None
    mode = "lfs" if hub.is_large(path) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known}


def _upload_address(hub: "FakeHub", thing: dict) -> dict:
    if thing["oid"] in hub.uploads:
        return thing
    return {**thing, "actions": {"upload": {"href": f"{hub.url}/upload/{thing['oid']}"}}}


def _commit(hub: "FakeHub", lines: list[dict]) -> tuple[int, Any]:
    files, added, deleted = dict(hub.files), [], []
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = hub.uploads[value["oid"]]
        elif line["key"] == "deletedFile":
            del files[value["path"]]
        (deleted if line["key"] == "deletedFile" else added).append(value.get("path"))
    hub.files = files
    hub.commits.append({"summary": lines[0]["value"]["summary"], "added": added[1:], "deleted": deleted})
    address = f"{hub.url}/{hub.repo}/commit/{len(hub.commits)}"
    return 200, {"success": True, "commitUrl": address, "commitOid": hub.commit}
