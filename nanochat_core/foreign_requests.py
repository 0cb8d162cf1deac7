"""Refuses what a foreign page could send to a server here: a wrong Host (DNS rebinding) or another page's Origin."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Message = dict[str, Any]
Answer = Callable[[str], tuple[str, bytes]]
"""From a sentence to the content type and the body of a refusal."""


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    return host in LOOPBACK


def host_name(value: str) -> str:
    """The name in a Host header, without its port; empty for what is no such header."""
    try:
        return (urlsplit(f"//{value}").hostname or "").lower()
    except ValueError:  # a broken IPv6 address
        return ""


def refusal(host: str, origin: str | None, any_host: bool) -> str | None:
    """Why a request with these headers is refused, as one sentence; None when it is welcome.

    any_host: the server was opened to others on purpose, so its names are not known; a page must still be its own.
    """
    if not any_host and host_name(host) not in LOOPBACK:
        return "This server answers on this machine only. Start it with --host to open it to others."
    if origin is None:
        return None
    theirs = host_name(origin.partition("://")[2])  # "null", of a page that hides where it is from, has none
    same_machine = not any_host and theirs in LOOPBACK
    if theirs and (same_machine or theirs == host_name(host)):
        return None
    return "This request comes from another page and is refused. Send it from a program, without the header Origin."


def as_text(sentence: str) -> tuple[str, bytes]:
    """A refusal as plain text."""
    return "text/plain; charset=utf-8", sentence.encode()


class RefuseForeign:
    """ASGI middleware: 403 with one sentence for what `refusal` refuses."""

    def __init__(self, app: Callable[..., Awaitable[None]], any_host: bool = False, answer: Answer = as_text):
        self.app, self.any_host, self.answer = app, any_host, answer

    async def __call__(self, scope: Message, receive: Callable, send: Callable) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        # Behind a tunnel or a proxy the server's own name is the forwarded one.
        host = headers.get(b"x-forwarded-host" if self.any_host and b"x-forwarded-host" in headers else b"host", "")
        reason = refusal(host, headers.get(b"origin"), self.any_host)
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            kind, body = self.answer(reason)
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", kind.encode())]})
            await send({"type": "http.response.body", "body": body})
