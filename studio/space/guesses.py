"""Wrong guesses of a name and password are answered ever more slowly: each address on its own."""

import asyncio
import ipaddress
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

FREE_GUESSES = 5
"""So many wrong ones cost nothing: people mistype."""
LONGEST_SECONDS = 30.0
MOST_WAITING = 4
"""Guesses of one address that wait at a time; further ones are refused at once."""
MOST_ADDRESSES = 4096
"""Those that are remembered; the one that was heard of least lately is forgotten first."""

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass
class _Guesser:
    """What is known of one address."""

    wrong: int = 0
    waiting: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def seconds(self) -> float:
        """How long the next guess has to wait: 1, 2, 4 seconds and so on, once the free ones are used up."""
        return min(2.0 ** min(self.wrong - FREE_GUESSES, 10), LONGEST_SECONDS) if self.wrong >= FREE_GUESSES else 0.0


class SlowGuesses:
    """ASGI middleware around gradio's sign-in. A right guess is heard too, after its wait, and forgives the wrong ones.

    An address takes turns, so that many guesses at once gain nothing.
    """

    def __init__(self, app: App, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep):
        self.app, self.sleep = app, sleep
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a guess wait for its turn and its time; pass on everything else as it is."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].rstrip("/").endswith("/login"):
            await self.app(scope, receive, send)
            return
        guesser = self._guesser(address(scope))
        if guesser.waiting >= MOST_WAITING:
            await _refuse(send)
            return
        guesser.waiting += 1
        try:
            async with guesser.turn:
                await self.sleep(guesser.seconds())
                await self._judge(guesser, scope, receive, send)
        finally:
            guesser.waiting -= 1

    async def _judge(self, guesser: _Guesser, scope: Message, receive: Receive, send: Send) -> None:
        guesser.wrong += 1  # until it is known to be right

        async def heard(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                guesser.wrong = 0
            await send(message)

        await self.app(scope, receive, heard)

    def _guesser(self, who: str) -> _Guesser:
        guesser = self._guessers.setdefault(who, _Guesser())
        self._guessers.move_to_end(who)
        if len(self._guessers) > MOST_ADDRESSES:
            self._guessers.popitem(last=False)
        return guesser


def address(scope: Message) -> str:
    """Who asks: an address, or the network of an IPv6 one, which one person has as a whole."""
    host = (scope.get("client") or ("", 0))[0]
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if found.version == 6 else str(found)


async def _refuse(send: Send) -> None:
    body = json.dumps({"detail": "Too many guesses at once. Wait half a minute, then try again."}).encode()
    headers = [(b"content-type", b"application/json"), (b"retry-after", str(int(LONGEST_SECONDS)).encode())]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": body})
