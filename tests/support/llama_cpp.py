"""Stock llama.cpp on an exported file: what it reads of a conversation, and what it replies."""

from pathlib import Path
from typing import Any

import httpx
import xllamacpp

SECONDS = 120


class LlamaCpp:
    """llama.cpp's own server in this process, on loopback, with one thread and exact keys and values."""

    def __init__(self, path: Path, context: int = 1024):
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.warmup, params.verbosity = context, 1, False, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.hostnames, params.port = ["127.0.0.1"], 0
        self._server = xllamacpp.Server(params)
        self._http = httpx.Client(base_url=self._server.listening_address, timeout=SECONDS)

    def chat(self, messages: list[dict[str, str]], **options: Any) -> dict[str, Any]:
        """The choice that its chat endpoint answers with, greedy where `options` do not say otherwise."""
        asked = {"messages": messages, "temperature": 0, "max_tokens": 64, **options}
        answer = self._http.post("/v1/chat/completions", json=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]

    def text(self, messages: list[dict[str, str]], **options: Any) -> str:
        return self.chat(messages, **options)["message"]["content"]

    def prompt_ids(self, messages: list[dict[str, str]]) -> list[int]:
        """The ids that it makes of a conversation by the file's own chat template."""
        answer = self._http.post("/apply-template", json={"messages": messages})
        assert answer.status_code == 200, answer.text
        return self.ids(answer.json()["prompt"])

    def ids(self, prompt: str) -> list[int]:
        """The ids of a prompt as its completion endpoint reads it."""
        answer = self._http.post("/tokenize", json={"content": prompt, "add_special": True, "parse_special": True})
        return answer.json()["tokens"]

    def refuses(self, messages: list[dict[str, str]]) -> str:
        """Why it does not take a conversation."""
        answer = self._http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1})
        assert answer.status_code != 200, answer.text
        return answer.text
