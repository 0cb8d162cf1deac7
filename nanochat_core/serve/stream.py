"""Sending one reply over HTTP, as a whole or as server-sent events, and letting go of it when the caller hangs up."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.types import Receive, Scope, Send

from nanochat_core.engine.batch import Failed, RowEvent
from nanochat_core.engine.reply import Done, Text
from nanochat_core.serve.answering import Closing
from nanochat_core.serve.request import ChatRequest
from nanochat_core.serve.response import ApiError, ChatResponse

_JSON = [(b"content-type", b"application/json")]
EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy shall not collect the pieces
]


class ChatAnswer:
    """An ASGI response: takes the events of a reply from a queue as the model makes them."""

    def __init__(
        self,
        asked: ChatRequest,
        response: ChatResponse,
        events: "asyncio.Queue[RowEvent | None]",
        let_go: Callable[[], None],
    ):
        """`let_go` is called at the end, whatever it was: the reply's place is then free."""
        self.asked, self.response, self.events, self.let_go = asked, response, events, let_go

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer as an ASGI application, and let go of the model when the other side hangs up."""
        answer = self._send_stream(send) if self.asked.stream else self._send_whole(send)
        await until_hung_up(answer, receive, self._hung_up, self.let_go)

    def _hung_up(self) -> None:
        self.let_go()  # at once, not after the next piece of text
        self.events.put_nowait(None)

    async def _send_whole(self, send: Send) -> None:
        pieces = []
        while (event := await self.events.get()) is not None:
            match event:
                case Text(text):
                    pieces.append(text)
                case Done(reason, tokens):
                    body = self.response.whole("".join(pieces), reason, tokens)
                    return await send_json(send, 200, body)
                case Failed(error):
                    failure = api_error(error)
                    return await send_json(send, failure.status, failure.to_dict())

    async def _send_stream(self, send: Send) -> None:
        """The headers go with the first event, so that a reply that fails at once has an error's status."""
        event = await self.events.get()
        if isinstance(event, Failed):
            failure = api_error(event.error)
            return await send_json(send, failure.status, failure.to_dict())
        if event is None:
            return None
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        await send_event(send, self.response.first_chunk())
        while event is not None:
            match event:
                case Text(text):
                    await send_event(send, self.response.text_chunk(text))
                case Done(reason, tokens):
                    await send_event(send, self.response.last_chunk(reason))
                    if self.asked.include_usage:
                        await send_event(send, self.response.usage_chunk(tokens))
                    return await send_data(send, "[DONE]", more=False)
                case Failed(error):
                    return await send_data(send, json.dumps(api_error(error).to_dict()), more=False)
            event = await self.events.get()
        return None


def api_error(error: Exception) -> ApiError:
    """What a caller is told of a reply that failed."""
    if isinstance(error, Closing):
        return ApiError(503, str(error), "server_stopping")
    if isinstance(error, ValueError):  # said for people
        return ApiError(500, str(error), "model_failed")
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "memory" in said:
        sentence = "The model ran out of memory. Ask for less at once, or serve it with a smaller --max-batch."
        return ApiError(503, sentence, "out_of_memory")
    return ApiError(500, f"The model failed ({said[:200]}). The server's terminal has the details.", "model_failed")


async def until_hung_up(
    answer: Coroutine[Any, Any, None], receive: Receive, hung_up: Callable[[], None], let_go: Callable[[], None]
) -> None:
    """Send the answer. hung_up: called when the other side leaves before it ends; let_go: at the end in any case."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        hung_up()

    watcher = asyncio.create_task(watch())
    try:
        await answer
    finally:
        watcher.cancel()
        let_go()


async def send_json(send: Send, status: int, body: dict[str, Any]) -> None:
    """The whole answer."""
    await send({"type": "http.response.start", "status": status, "headers": _JSON})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def send_event(send: Send, chunk: dict[str, Any]) -> None:
    """One piece of a stream."""
    await send_data(send, json.dumps(chunk), more=True)


async def send_data(send: Send, data: str, more: bool) -> None:
    """One server-sent event; the last one where there is no `more`."""
    await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": more})
