"""Who may speak to a server on this machine: its own programs, and no page of somebody else's."""

import asyncio

import pytest

from nanochat_core.foreign_requests import RefuseForeign, host_name, refusal


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
        ("[::1]:8000", "http://localhost:3000", False, True),
        ("evil.example", None, False, False),
        ("", None, False, False),
        ("127.0.0.1", "http://evil.example", False, False),
        ("127.0.0.1", "null", False, False),
        ("127.0.0.1", "http://[", False, False),
        ("studio.example", None, True, True),
        ("studio.example:8000", "https://studio.example", True, True),
        ("studio.example", "https://evil.example", True, False),
        ("studio.example", "http://localhost", True, False),
    ],
)
def test_refusal(host, origin, any_host, welcome):
    assert (refusal(host, origin, any_host) is None) == welcome


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
