"""OpenAI's shapes of an answer: a chat.completion as a whole, chat.completion.chunks as they come, and errors."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Literal

FINISH_REASONS: dict[str, Literal["stop", "length"]] = {"stop": "stop", "length": "length", "context": "length"}
"""OpenAI's word for the way in which a reply ended, by ours: whether max_tokens or the context ran out is one to it."""


@dataclass(frozen=True)
class ChatResponse:
    """The frame of one reply to a prompt of `prompt_tokens`."""

    model: str
    prompt_tokens: int
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, reason: str, tokens: int) -> dict[str, Any]:
        """The whole reply: its text, why it ended (ours), and its length in tokens."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": FINISH_REASONS[reason],
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage(tokens)}

    def first_chunk(self) -> dict[str, Any]:
        """The chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": ""})

    def text_chunk(self, text: str) -> dict[str, Any]:
        """The next piece of the text."""
        return self._chunk({"content": text})

    def last_chunk(self, reason: str) -> dict[str, Any]:
        """The chunk that says why the reply ended."""
        return self._chunk({}, FINISH_REASONS[reason])

    def usage_chunk(self, tokens: int) -> dict[str, Any]:
        """The chunk behind the last that counts, for those who ask for it."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage(tokens)}

    def _chunk(self, delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _usage(self, tokens: int) -> dict[str, int]:
        total = self.prompt_tokens + tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": tokens, "total_tokens": total}


class ApiError(ValueError):
    """A request that is refused or failed: what, where and the remedy, and what a program needs to tell it apart."""

    def __init__(self, status: int, sentence: str, code: str, param: str | None = None):
        """`status` is HTTP's, `code` OpenAI's word for the kind, `param` the field of the request that is at fault."""
        super().__init__(sentence)
        self.status, self.code, self.param = status, code, param

    def to_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        return {
            "error": {"message": str(self), "type": _type(self.status), "param": self.param, "code": self.code},
        }


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
