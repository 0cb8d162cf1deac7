"""Which addresses of the server a visitor of a Space may open: the page, its events and the sign-in, and no others."""

from collections.abc import Awaitable, Callable
from typing import Any

from studio.space.page import ONLY_OWNER, sender

_API = "/gradio_api/"
# Uploads, files and component functions go past the page's events, so they are not here.
_READ = ("/static/", "/assets/", "/svelte/", "/pwa_icon", "/login/", "/logout", f"{_API}call/", f"{_API}heartbeat/")
_READ_EXACTLY = {
    "/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json",
    *(f"{_API}{name}" for name in (
        "info", "openapi.json", "queue/data", "queue/status", "startup-events", "app_id", "user", "login_check",
        "token", "theme.css",
    )),
}  # fmt: skip
_SEND = tuple(f"{_API}{name}/" for name in ("run", "api", "call"))
_SEND_EXACTLY = {f"{_API}{name}" for name in ("queue/join", "cancel", "reset")}

Message = dict[str, Any]


def is_open(method: str, path: str) -> bool:
    """Whether a visitor may make such a request."""
    if ".." in path or "//" in path:
        return False
    path = path.rstrip("/") or "/"
    if method in ("GET", "HEAD"):
        return path in _READ_EXACTLY or path.startswith(_READ)
    return method == "POST" and (path in _SEND_EXACTLY or path.startswith(_SEND))


class OwnersDoors:
    """ASGI middleware: 403 with one sentence for what is not open to visitors. It stands within the session's."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Pass on what is open to everybody, and all requests of the owner; answer 403 to the rest."""
        kind = scope["type"]
        is_welcome = kind == "http" and is_open(scope["method"], scope["path"])
        if kind == "lifespan" or is_welcome or sender(scope).is_owner:
            await self.app(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": ONLY_OWNER.encode()})
