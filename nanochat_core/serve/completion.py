"""Answers to /v1/completions: replies to raw prompts, and what the model thinks of each token of them."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from nanochat_core.engine.batch import Failed, RowEvent
from nanochat_core.engine.reply import Done, Text
from nanochat_core.engine.row import Row
from nanochat_core.engine.scoring import Scored
from nanochat_core.serve.completion_request import CompletionRequest
from nanochat_core.serve.response import FINISH_REASONS, ApiError
from nanochat_core.serve.stream import EVENTS, api_error, send_data, send_event, send_json, until_hung_up
from nanochat_core.tokenizer.tokenizer import Tokenizer


@dataclass
class Part:
    """One of the prompts of a request, and its reply so far."""

    text: str
    """The prompt as its caller sees it again: as text, and without a <|bos|> that was put before it."""
    ids: list[int]
    added_bos: bool
    row: Row | None = None
    """None where nothing is to be written."""
    reply: str = ""
    done: Done | None = None
    scored: list[Scored] | None = None

    @property
    def all_ids(self) -> list[int]:
        """Prompt and reply, with the special token that ended it."""
        if self.row is None:
            return self.ids
        end = [] if self.row.end_token is None else [self.row.end_token]
        return [*self.ids, *self.row.reply.tokens, *end]


def read_prompt(tokenizer: Tokenizer, context: int, asked: CompletionRequest, prompt: str | list[int]) -> Part:
    """A prompt as ids: a text begins with <|bos|>, as all that the model was trained on; ids are taken as they are."""
    try:
        if isinstance(prompt, str):
            part = Part(prompt, [tokenizer.bos, *tokenizer.encode(prompt)], added_bos=True)
        else:
            part = Part(tokenizer.decode(prompt), prompt, added_bos=False)
    except ValueError as error:
        raise ApiError(400, str(error), "invalid_value", "prompt") from error
    if len(part.ids) + bool(asked.max_tokens) > context:
        raise ApiError(
            400,
            f"A prompt has {len(part.ids):,} tokens; the model's context of {context:,} must hold it and the "
            "reply. Send a shorter one.",
            "context_length_exceeded",
            "prompt",
        )
    return part


@dataclass
class CompletionAnswer:
    """An ASGI response: takes the events of all parts, (number of the part, event), as the model makes them."""

    asked: CompletionRequest
    parts: list[Part]
    tokenizer: Tokenizer
    events: "asyncio.Queue[tuple[int, RowEvent] | None]"
    score: Callable[[int], None]
    """Has a part scored whose reply is over: `events` then gets a list of Scored for it."""
    let_go: Callable[[], None]
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer as an ASGI application, and let go of the model when the other side hangs up."""
        answer = self._send_stream(send) if self.asked.stream else self._send_whole(send)
        await until_hung_up(answer, receive, self._hung_up, self.let_go)

    def _hung_up(self) -> None:
        self.let_go()  # at once, not after the next piece of text
        self.events.put_nowait(None)

    async def _send_whole(self, send: Send) -> None:
        for number, part in enumerate(self.parts):
            if part.row is None:
                self.score(number)
        open_parts = len(self.parts)
        while open_parts and (entry := await self.events.get()) is not None:
            number, event = entry
            part = self.parts[number]
            match event:
                case Text(text):
                    part.reply += text
                case Failed(error):
                    failure = api_error(error)
                    return await send_json(send, failure.status, failure.to_dict())
                case Done():
                    part.done = event
                    if self.asked.logprobs is None:
                        open_parts -= 1
                    else:
                        self.score(number)
                case list():
                    part.scored = event
                    open_parts -= 1
        if not open_parts:
            choices = [self._choice(number, part) for number, part in enumerate(self.parts)]
            await send_json(send, 200, {**self._head(), "choices": choices, "usage": self._usage()})
        return None

    async def _send_stream(self, send: Send) -> None:
        """The headers go with the first event, so that a reply that fails at once has an error's status."""
        open_parts, has_begun = len(self.parts), False
        while open_parts and (entry := await self.events.get()) is not None:
            number, event = entry
            if isinstance(event, Failed):
                failure = api_error(event.error)
                if not has_begun:
                    return await send_json(send, failure.status, failure.to_dict())
                return await send_data(send, json.dumps(failure.to_dict()), more=False)
            if not has_begun:
                await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
                has_begun = True
            if isinstance(event, Text):
                await send_event(send, self._chunk(number, event.text))
            if isinstance(event, Done):
                self.parts[number].done = event
                await send_event(send, self._chunk(number, "", FINISH_REASONS[event.reason]))
                open_parts -= 1
        if not open_parts:
            if self.asked.include_usage:
                await send_event(send, {**self._head(), "choices": [], "usage": self._usage()})
            await send_data(send, "[DONE]", more=False)
        return None

    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.asked.model}

    def _chunk(self, number: int, text: str, reason: str | None = None) -> dict[str, Any]:
        choice = {"text": text, "index": number, "logprobs": None, "finish_reason": reason}
        return {**self._head(), "choices": [choice]}

    def _choice(self, number: int, part: Part) -> dict[str, Any]:
        return {
            "text": (part.text if self.asked.echo else "") + part.reply,
            "index": number,
            "logprobs": None if part.scored is None or self.asked.logprobs is None else self._told(part),
            "finish_reason": FINISH_REASONS[part.done.reason] if part.done else "length",
        }

    def _told(self, part: Part) -> dict[str, list[Any]]:
        """OpenAI's shape: four lists with an entry for each token, a reply's last special token included."""
        assert part.scored is not None
        scored = part.scored[int(part.added_bos) if self.asked.echo else len(part.ids) :]
        names, offset = [self._name(one.token) for one in scored], 0
        offsets = []
        for one in scored:
            offsets.append(offset)
            special = one.token in self.tokenizer.special_ids
            offset += 0 if special else len(self.tokenizer.decode([one.token]))
        tops = [{self._name(token): value for token, value in one.likeliest} or None for one in scored]
        values = [one.log_probability for one in scored]
        return {"tokens": names, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}

    def _name(self, token: int) -> str:
        """A token as text; one that is a part of a character in OpenAI's spelling of bytes, so that no two are one."""
        data = self.tokenizer.decode_bytes([token])
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def _usage(self) -> dict[str, int]:
        prompt = sum(len(part.ids) for part in self.parts)
        written = sum(part.done.tokens for part in self.parts if part.done)
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
