"""Who may speak to a server on this machine: its own programs, and no page of somebody else's."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from nanochat_core.system.foreign_requests import RefuseForeign, host_name, refusal


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:8000", "localhost"), ("[::1]:8000", "::1"), ("Evil.Example", "evil.example"), ("[", ""), ("", "")],
)
def test_host_name(header, name):
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("host", "origin", "any_host", "welcome"),
    [
        ("127.0.0.1:8000", None, False, True),
        ("localhost", None, False, True),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", False, True),
        ("LOCALHOST:8000", "http://localhost:8000", False, True),
        ("[::1]:8000", "http://[::1]:8000", False, True),
        ("[::1]:8000", "http://localhost:3000", False, False),
        ("127.0.0.1:8000", "http://127.0.0.1:3000", False, False),
        ("127.0.0.1:8000", "http://localhost:8000", False, False),
        ("127.0.0.1:8000", "http://127.0.0.1", False, False),
        ("127.0.0.1.evil.example:7860", None, False, False),
        ("[::1", None, False, False),
        ("127.0.0.1:7860", "http://127.0.0.1.evil.example", False, False),
        ("127.0.0.1:7860", "", False, False),
        ("127.0.0.1:7860", "://", False, False),
        ("evil.example", None, False, False),
        ("", None, False, False),
        ("127.0.0.1", "http://evil.example", False, False),
        ("127.0.0.1", "null", False, False),
        ("127.0.0.1", "http://[", False, False),
        ("studio.example", None, True, True),
        ("studio.example:8000", "https://studio.example", True, True),
        ("studio.example", "https://evil.example", True, False),
        ("studio.example", "http://localhost", True, False),
        ("studio.example", "null", True, False),
    ],
)
def test_refusal(host, origin, any_host, welcome):
    assert (refusal(host, origin, any_host) is None) == welcome


def test_behind_a_proxy_that_changes_the_host_its_known_names_are_its_own():
    names = {"me-studio.hf.space"}
    assert refusal("10.0.0.3:7860", "https://me-studio.hf.space", True, names) is None
    assert refusal("me-studio.hf.space", "https://me-studio.hf.space", True, names) is None
    assert refusal("10.0.0.3:7860", "https://other-studio.hf.space", True, names)
    assert refusal("10.0.0.3:7860", None, True, names) is None


def test_the_middleware_answers_in_the_given_shape():
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope)

    async def send(message):
        sent.append(message)

    def ask(**headers):
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        guard = RefuseForeign(app, answer=lambda sentence: ("application/json", b"{}"))
        asyncio.run(guard({"type": "http", "headers": pairs}, None, send))

    ask(host="127.0.0.1")
    assert (len(reached), sent) == (1, [])
    ask(host="127.0.0.1", origin="https://evil.example")
    assert len(reached) == 1
    assert (sent[0]["status"], sent[1]["body"]) == (403, b"{}")


def test_in_front_of_a_real_app():
    app = Starlette(
        routes=[Route("/", lambda request: PlainTextResponse("in"), methods=["GET", "POST"])],
        middleware=[Middleware(RefuseForeign)],
    )
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get("/").text == "in"
    refused = client.post("/", headers={"Origin": "https://evil.example"})
    assert (refused.status_code, "another page" in refused.text) == (403, True)
    assert client.get("/", headers={"Host": "rebound.example"}).status_code == 403
