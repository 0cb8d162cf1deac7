"""Refuses what a foreign page could send to a server here: a wrong Host (DNS rebinding) or another page's Origin."""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Message = MutableMapping[str, Any]
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


def refusal(host: str, origin: str | None, any_host: bool, own_names: Collection[str] = ()) -> str | None:
    """Why a request with these headers is refused, as one sentence; None when it is welcome.

    any_host: the server was opened to others on purpose, so its names are not all known; a page must still be its own.
    own_names: names that it is known by outside, where what stands before it changes the header Host.
    """
    if not any_host and host_name(host) not in LOOPBACK:
        return "This server answers on this machine only. Start it with --host to open it to others."
    if origin is None or _is_own(origin, host, any_host, own_names):
        return None
    return "This request comes from another page and is refused. Send it from a program, without the header Origin."


def _is_own(origin: str, host: str, any_host: bool, own_names: Collection[str]) -> bool:
    """Whether the page of `origin` was served by us."""
    address = origin.partition("://")[2].lower()  # "null", of a page that hides where it is from, has none
    name = host_name(address)
    if not any_host:  # on this machine every port may be another program, and its pages are not ours
        return bool(name) and address == host.lower()
    return bool(name) and (name == host_name(host) or name in own_names)


def as_text(sentence: str) -> tuple[str, bytes]:
    """A refusal as plain text."""
    return "text/plain; charset=utf-8", sentence.encode()


class RefuseForeign:
    """ASGI middleware: 403 with one sentence for what `refusal` refuses."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        any_host: bool = False,
        answer: Answer = as_text,
        own_names: Collection[str] = (),
    ):
        self.app, self.any_host, self.answer, self.own_names = app, any_host, answer, own_names

    async def __call__(self, scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Answer 403 to a request from another page; pass on all others."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        # Behind a tunnel or a proxy the server's own name is the forwarded one.
        host = headers.get(b"x-forwarded-host" if self.any_host and b"x-forwarded-host" in headers else b"host", "")
        reason = refusal(host, headers.get(b"origin"), self.any_host, self.own_names)
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            kind, body = self.answer(reason)
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", kind.encode())]})
            await send({"type": "http.response.body", "body": body})
