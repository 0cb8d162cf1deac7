"""The app as it runs on a Hugging Face Space, on this machine: its environment, its visitors and its owner."""

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import itsdangerous

ROOT = Path(__file__).resolve().parents[2]
HOST = "ann-studio.hf.space"
SECRET = "only-the-space-knows"
NOWHERE = "http://127.0.0.1:9"

ENVIRONMENT = {
    "SYSTEM": "spaces",
    "SPACE_ID": "ann/studio",
    "SPACE_HOST": HOST,
    "SPACE_AUTHOR_NAME": "Ann",
    "SPACE_REPO_NAME": "studio",
    "SPACE_CREATOR_USER_ID": "64a000000000000000000001",
    "NANOCHAT_STUDIO_OWNERS": "ben, cleo",
    "OAUTH_CLIENT_ID": "client",
    "OAUTH_CLIENT_SECRET": SECRET,
    "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": NOWHERE,
    "HF_ENDPOINT": NOWHERE,
    "CUDA_VISIBLE_DEVICES": "",
    "GRADIO_SERVER_NAME": "127.0.0.1",
}


def cookie(name: str, expires_in: float = 3600, secret: str = SECRET) -> dict[str, str]:
    """The session of a person who has signed in, as gradio's middleware signs it."""
    userinfo = {"preferred_username": name, "sub": "64a000000000000000000001", "name": name}
    session = {"oauth_info": {"userinfo": userinfo, "access_token": "x", "expires_at": time.time() + expires_in}}
    key = hashlib.sha256(f"{secret}-v4".encode()).hexdigest()
    text = base64.b64encode(json.dumps(session).encode())
    return {"session": itsdangerous.TimestampSigner(key).sign(text).decode()}


class SpaceApp:
    """`python app.py` in a process of its own, with the variables of a Space."""

    def __init__(self, home: Path, **changes: str):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        self.log = home.parent / "space.log"
        environment = {
            **os.environ,
            **ENVIRONMENT,
            "NANOCHAT_STUDIO_HOME": str(home),
            "GRADIO_SERVER_PORT": str(self.port),
            **changes,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        self._wait()

    def _wait(self) -> None:
        limit = time.monotonic() + 400
        while time.monotonic() < limit and self.process.poll() is None:
            try:
                httpx.get(f"{self.base}/config", headers={"Host": HOST}, timeout=30)
                return
            except httpx.ConnectError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def close(self) -> None:
        """End it as a Space is ended."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)

    def guest(self, cookies: dict[str, str] | None = None) -> "Guest":
        return Guest(self, cookies)


class Guest:
    """A browser without a screen: one session of the page."""

    def __init__(self, app: Any, cookies: dict[str, str] | None = None, host: str = HOST):
        """app: what has its address as `base`. host: what it is known by outside; "" for this machine."""
        headers = {"Host": host, "Origin": f"https://{host}"} if host else {}
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        self.http = httpx.Client(base_url=app.base, headers=headers, timeout=120)
        self.session = uuid.uuid4().hex
        self.config = self.http.get("/config").json()
        self.fields = {field["id"]: field for field in self.config["components"]}

    def event(self, elem_id: str, kind: str) -> dict[str, Any]:
        """The first event with a handler of a field."""
        for event in self.config["dependencies"]:
            for target, name in event["targets"]:
                known = self.fields.get(target, {"props": {}})["props"].get("elem_id")
                if event["backend_fn"] and (known, name) == (elem_id, kind):
                    return event
        raise AssertionError(f"no event {kind} of {elem_id}")

    def values(self, event: dict[str, Any], **changes: Any) -> list[Any]:
        """What the page would send, with changes by elem_id."""
        found = []
        for number in event["inputs"]:
            props = self.fields[number]["props"]
            found.append(changes.get(props.get("elem_id"), props.get("value")))
        return found

    def join(self, event: dict[str, Any], **changes: Any) -> str | None:
        """Put an event in the queue."""
        asked = {
            "data": self.values(event, **changes),
            "fn_index": event["id"],
            "session_hash": self.session,
            "event_data": {"value": "x", "index": 0, "selected": True},
            "trigger_id": event["targets"][0][0] if event["targets"] else None,
        }
        answer = self.http.post("/gradio_api/queue/join", json=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()["event_id"]

    def open(self) -> list[dict[str, Any]]:
        """What the page asks for when it is opened."""
        for event in self.config["dependencies"]:
            if event["backend_fn"] and any(name == "load" for _, name in event["targets"]):
                self.join(event)
        return self.messages()

    def messages(self) -> list[dict[str, Any]]:
        """What the queue says until everything that was put there is done."""
        found = []
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    found.append(json.loads(line.removeprefix("data:")))
        return found

    def do(self, elem_id: str, kind: str = "click", **changes: Any) -> list[dict[str, Any]]:
        """One event from its start to its end."""
        self.join(self.event(elem_id, kind), **changes)
        return self.messages()


def sentence(messages: list[dict[str, Any]]) -> str:
    """Why an event failed; "" when it did not."""
    ends = [message for message in messages if message["msg"] == "process_completed"]
    return "" if ends[-1]["success"] else str(ends[-1]["output"].get("error"))
