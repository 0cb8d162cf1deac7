"""What a server has done and is doing, in Prometheus' text format."""

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nanochat_core.engine.batch import RowEvent
from nanochat_core.engine.reply import Done

CONTENT_TYPE = CONTENT_TYPE_LATEST
ADDRESSES = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics")
FACTS = ("parameters", "generation", "dtype", "device")
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Of one server. A model's queue is asked for when somebody reads it."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"nanochat_{name}", words, labels, registry=registry)

        def histogram(name: str, words: str, *labels: str) -> Histogram:
            return Histogram(f"nanochat_{name}", words, labels, registry=registry, buckets=_SECONDS)

        def gauge(name: str, words: str, *labels: str) -> Gauge:
            return Gauge(f"nanochat_{name}", words, labels, registry=registry)

        self._requests = counter("requests", "Requests answered.", "address", "status")
        self._seconds = histogram("request_seconds", "From a request to the end of its answer.", "address")
        self._first = histogram("first_token_seconds", "From a prompt to the first piece of its reply.", "model")
        self._read = counter("prompt_tokens", "Tokens of prompts.", "model")
        self._written = counter("completion_tokens", "Tokens of finished replies.", "model")
        self._running = gauge("requests_running", "Replies being written.", "model")
        self._waiting = gauge("requests_waiting", "Replies waiting for a place.", "model")
        self._info = gauge("model_info", "The models that are served.", "model", *FACTS)

    def add_model(self, model: str, facts: dict[str, str], open_requests: Callable[[], int], places: int) -> None:
        """facts: of the model, by FACTS. places: replies that are written at once; `open_requests` beyond wait."""
        self._running.labels(model).set_function(lambda: min(places, open_requests()))
        self._waiting.labels(model).set_function(lambda: max(0, open_requests() - places))
        self._info.labels(model, *(facts.get(name, "") for name in FACTS)).set(1)
        for each in (self._first, self._read, self._written):
            each.labels(model)  # there from the beginning, as 0

    def text(self) -> bytes:
        """All of it, as CONTENT_TYPE says."""
        return generate_latest(self._registry)

    def listening(self, model: str, prompt_tokens: int) -> Callable[[RowEvent], None]:
        """Counts a reply that begins now; is told each of its events."""
        self._read.labels(model).inc(prompt_tokens)
        begun, has_begun = time.perf_counter(), False

        def note(event: RowEvent) -> None:
            nonlocal has_begun
            if not has_begun:
                self._first.labels(model).observe(time.perf_counter() - begun)
                has_begun = True
            if isinstance(event, Done):
                self._written.labels(model).inc(event.tokens)

        return note

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request is over."""
        address = next((known for known in ADDRESSES if path == known or path.startswith(f"{known}/")), "other")
        self._requests.labels(address, str(status)).inc()
        self._seconds.labels(address).observe(seconds)


class Measured:
    """ASGI middleware that counts every request and how long it took."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the application within."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, status = time.perf_counter(), 499  # nginx's word for a caller who hung up before an answer

        async def noted(message: Message) -> Any:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            self.metrics.answered(scope["path"], status, time.perf_counter() - begun)
