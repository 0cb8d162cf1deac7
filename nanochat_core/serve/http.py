"""The HTTP side of `serve`: OpenAI's addresses over one `Answering` a model, as an ASGI application."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from nanochat_core.engine.batch import RowEvent
from nanochat_core.engine.row import Row
from nanochat_core.engine.sampling import Sampling
from nanochat_core.serve.answering import Answering, Busy, Closing
from nanochat_core.serve.completion import CompletionAnswer, read_prompt
from nanochat_core.serve.completion_request import CompletionRequest
from nanochat_core.serve.metrics import CONTENT_TYPE, Measured, Metrics
from nanochat_core.serve.request import ChatRequest
from nanochat_core.serve.response import ApiError, ChatResponse
from nanochat_core.serve.stream import ChatAnswer
from nanochat_core.system.foreign_requests import RefuseForeign
from nanochat_core.tokenizer.tokenizer import Tokenizer

MAX_BODY_BYTES = 1 << 20
"""Far more text than any context holds."""
BODY_SECONDS = 60
"""How long a request's body may take to arrive."""


@dataclass(frozen=True)
class Served:
    """One model and who may use it."""

    name: str
    """What callers call it."""
    created: int
    """When its checkpoint was written, in seconds since 1970."""
    context: int
    """Tokens of prompt and reply together."""
    tokenizer: Tokenizer
    answering: Answering
    facts: dict[str, str] = field(default_factory=dict)
    """Of the model, for the metrics: metrics.FACTS."""
    api_key: str | None = None
    any_host: bool = False
    """Whether the server was opened to other machines."""


Shelf = Mapping[str, Served]
"""The models by what callers call them."""


def build_app(first: Served, *others: Served) -> ASGIApp:
    """The ASGI application: OpenAI's addresses with errors in its shape, /health (without a key) and /metrics.

    Several models answer at the same addresses, by their names; key and host are the first one's.
    """
    shelf = {served.name: served for served in (first, *others)}
    metrics = Metrics()
    for served in shelf.values():
        metrics.add_model(served.name, served.facts, served.answering.open_requests, served.answering.places)

    async def models(_: Request) -> Response:
        return _json({"object": "list", "data": [_model_card(served) for served in shelf.values()]})

    async def model(request: Request) -> Response:
        return _json(_model_card(_chosen(shelf, request.path_params["name"])))

    async def chat(request: Request) -> ChatAnswer:
        return await _chat(shelf, metrics, request)

    async def complete(request: Request) -> CompletionAnswer:
        return await _complete(shelf, metrics, request)

    async def health(_: Request) -> Response:
        is_well = all(served.answering.is_alive for served in shelf.values())
        return _json({"status": "ok" if is_well else "stopping", "models": [*shelf]}, 200 if is_well else 503)

    async def measured(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    routes = [
        Route("/health", health),
        Route("/metrics", measured),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", complete, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
    ]
    handlers: dict[Any, Any] = {ApiError: _on_api_error, HTTPException: _on_http_error, Exception: _on_bug}
    app = _RequireKey(Starlette(routes=routes, exception_handlers=handlers), first.api_key)
    return Measured(RefuseForeign(app, first.any_host, _refusal), metrics)


async def _chat(shelf: Shelf, metrics: Metrics, request: Request) -> ChatAnswer:
    """Begin a reply. All that can be refused is refused here; the answer is sent as the reply is made."""
    asked = ChatRequest.parse(await _read_body(request))
    served = _chosen(shelf, asked.model)
    prompt = await run_in_threadpool(_render, served, asked)  # a long text takes a moment, and others wait for theirs
    events: asyncio.Queue[RowEvent | None] = asyncio.Queue()
    row = _ask(served, metrics, asked, prompt, _from_any_thread(events))
    response = ChatResponse(served.name, len(prompt))
    return ChatAnswer(asked, response, events, lambda: served.answering.cancel(row))


async def _complete(shelf: Shelf, metrics: Metrics, request: Request) -> CompletionAnswer:
    """Begin a reply to each of the prompts, or none where nothing is to be written; as `_chat`."""
    asked = CompletionRequest.parse(await _read_body(request))
    served = _chosen(shelf, asked.model)
    parts = await run_in_threadpool(
        lambda: [read_prompt(served.tokenizer, served.context, asked, prompt) for prompt in asked.prompts]
    )
    events: asyncio.Queue[Any] = asyncio.Queue()
    put = _from_any_thread(events)

    def let_go() -> None:
        for part in parts:
            if part.row is not None:
                served.answering.cancel(part.row)

    def listening(number: int) -> Callable[[RowEvent], None]:
        return lambda event: put((number, event))

    def score(number: int) -> None:
        served.answering.score(parts[number].all_ids, asked.logprobs or 0, lambda scored: put((number, scored)))

    try:
        for number, part in enumerate(parts if asked.max_tokens else ()):
            part.row = _ask(served, metrics, asked, part.ids, listening(number))
    except ApiError:
        let_go()
        raise
    return CompletionAnswer(asked, parts, served.tokenizer, events, score, let_go)


def _ask(
    served: Served,
    metrics: Metrics,
    asked: ChatRequest | CompletionRequest,
    prompt: list[int],
    listen: Callable[[RowEvent], None],
) -> Row:
    """Begin a reply to the ids `prompt`; ApiError when there is no place."""
    seed = secrets.randbits(63) if asked.seed is None else asked.seed
    sampling = Sampling(asked.temperature, asked.top_k, seed, asked.top_p)
    note = metrics.listening(served.name, len(prompt))

    def both(event: RowEvent) -> None:
        note(event)
        listen(event)

    try:
        return served.answering.ask(prompt, asked.max_tokens or served.context, sampling, asked.stops, both)
    except Busy as error:
        raise ApiError(429, str(error), "server_busy") from error
    except Closing as error:
        raise ApiError(503, str(error), "server_stopping") from error


def _from_any_thread(events: "asyncio.Queue[Any]") -> Callable[[Any], None]:
    """Puts into `events` of this loop, from the model's thread."""
    loop = asyncio.get_running_loop()

    def put(event: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended, and its loop is closed
            loop.call_soon_threadsafe(events.put_nowait, event)

    return put


async def _read_body(request: Request) -> bytes:
    too_large = ApiError(
        413, f"The body has more than {MAX_BODY_BYTES:,} bytes. Send shorter messages.", "request_too_large"
    )
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        sentence = f"The body took more than {BODY_SECONDS} seconds to arrive. Send it again."
        raise ApiError(408, sentence, "timeout") from None
    except ClientDisconnect:
        raise ApiError(400, "The connection was closed before the body was complete.", "incomplete_body") from None
    return bytes(body)


def _chosen(shelf: Shelf, name: str) -> Served:
    if name not in shelf:
        there = ", ".join(map(repr, shelf))
        sentence = f"There is no model {name!r:.100} here. This server has {there}."
        raise ApiError(404, sentence, "model_not_found", "model")
    return shelf[name]


def _render(served: Served, asked: ChatRequest) -> list[int]:
    """The prompt's ids. ApiError for turns in an order that the model does not know, and for too many tokens."""
    try:
        prompt = served.tokenizer.render_prompt(asked.messages)
    except ValueError as error:
        raise ApiError(400, str(error), "invalid_value", "messages") from error
    if len(prompt) >= served.context:
        raise ApiError(
            400,
            f"The messages have {len(prompt):,} tokens; the model's context of {served.context:,} must hold them and "
            "the reply. Send fewer or shorter messages.",
            "context_length_exceeded",
            "messages",
        )
    return prompt


def _model_card(served: Served) -> dict[str, Any]:
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "nanochat"}


def _json(content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(content), status, headers, "application/json")


async def _on_api_error(_: Request, error: ApiError) -> Response:
    return _answer_error(error)


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    """Starlette's own: no such address, or not with this method."""
    if error.status_code == 405:
        sentence = f"{request.url.path} does not take {request.method}. Use {(error.headers or {}).get('Allow')}."
        return _answer_error(ApiError(405, sentence, "method_not_allowed"))
    sentence = (
        f"There is nothing at {request.url.path:.100}. This server has /v1/chat/completions, /v1/completions and "
        "/v1/models (the base address of a client ends with /v1), /health and /metrics."
    )
    return _answer_error(ApiError(error.status_code, sentence, "unknown_url"))


async def _on_bug(_: Request, error: Exception) -> Response:
    """Whatever nobody thought of; uvicorn prints its traceback."""
    sentence = f"The server failed ({type(error).__name__}). Its terminal has the details."
    return _answer_error(ApiError(500, sentence, "internal_error"))


def _answer_error(error: ApiError) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if error.status in (429, 503):
        headers["Retry-After"] = "1"
    return _json(error.to_dict(), error.status, headers)


def _refusal(sentence: str) -> tuple[str, bytes]:
    return "application/json", json.dumps(ApiError(403, sentence, "foreign_request").to_dict()).encode()


class _RequireKey:
    """ASGI middleware: 401 without the right bearer key, where one is set. Whether the server is well, all may ask."""

    def __init__(self, app: ASGIApp, key: str | None):
        self.app = app
        self._digest = None if key is None else _digest(f"Bearer {key}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._digest is not None and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(_digest(given), self._digest):  # takes as long for a good beginning
                what = "The API key is wrong" if given else "This server wants an API key"
                sentence = f"{what}. Send the one that it was started with, as the header Authorization: Bearer KEY."
                await _answer_error(ApiError(401, sentence, "invalid_api_key"))(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
