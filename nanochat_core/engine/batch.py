"""Many replies at once, each begun when it is asked for: requests join and leave a batch between decode steps.

A newcomer's prompt is read by itself, in pieces, into a cache of its own, and the others go on in between; then its
row joins theirs. So a reply that is alone takes the very path of `Engine`, and one among others differs by rounding.
"""

import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from nanochat_core.engine.reply import Done, Reply, Text, ToolCall
from nanochat_core.engine.row_cache import RowCache
from nanochat_core.engine.sampling import Sampling
from nanochat_core.engine.stop_strings import StopStrings
from nanochat_core.model.gpt import GPT
from nanochat_core.model.kv_cache import KVCache
from nanochat_core.tokenizer.tokenizer import Tokenizer

PROMPT_TOKENS = 256
"""Tokens of prompts read between two decode steps: the longest that the others are kept waiting."""


@dataclass(frozen=True)
class Failed:
    """The reply came to nothing; the last of its events, in place of Done."""

    error: Exception


RowEvent = Text | ToolCall | Done | Failed


@dataclass(eq=False)
class Row:
    """One prompt and how far its reply is."""

    prompt: list[int]
    limit: int
    """Tokens of the reply at most."""
    limited_by_context: bool
    sampling: Sampling
    stops: StopStrings
    reply: Reply
    source: random.Random
    cache: KVCache | None = None
    """The prompt's keys and values while it is being read."""
    finished: bool = False
    started: float = field(default_factory=time.perf_counter)


class Batch:
    """Generates for up to `max_rows` requests at once; more of them wait. Not to be called from several threads."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, max_rows: int):
        self.model, self.tokenizer, self.max_rows = model, tokenizer, max_rows
        self._ends = {tokenizer.bos, tokenizer.special("<|assistant_end|>")}
        self._waiting: deque[Row] = deque()
        self._reading: Row | None = None
        self._live: list[Row] = []  # in the order of the cache's rows
        self._cache = RowCache(model.new_cache, max_rows)

    def new_row(self, prompt: list[int], max_tokens: int, sampling: Sampling, stops: tuple[str, ...] = ()) -> Row:
        """A request for `add`. `prompt` (ids as of `render_prompt`) must leave room for a token in the context."""
        room = self.model.config.sequence_len - len(prompt)
        assert 0 < len(prompt) < self.model.config.sequence_len
        assert max_tokens >= 1
        return Row(
            prompt,
            min(max_tokens, room),
            room < max_tokens,
            sampling,
            StopStrings(stops),
            Reply(self.tokenizer),
            sampling.source(),
        )

    @property
    def idle(self) -> bool:
        """Whether a step would do nothing."""
        return not (self._waiting or self._reading or self._live)

    def add(self, row: Row) -> None:
        """Let a request begin as soon as there is a place."""
        self._waiting.append(row)

    def remove(self, row: Row) -> None:
        """Drop a request, wherever it is; its place is free at once. One that is over already is no error."""
        if row in self._live:
            self._leave(self._live.index(row))
        elif row is self._reading:
            self._reading = None
        elif row in self._waiting:
            self._waiting.remove(row)

    def clear(self) -> None:
        """Drop every request."""
        self._waiting.clear()
        self._live.clear()
        self._reading = None
        self._cache.clear()

    def step(self) -> list[tuple[Row, RowEvent]]:
        """Read a piece of the newcomers' prompts, and write one token of each live reply; what came of it, in order."""
        events = self._read_prompts()
        if self._live:
            events += self._write_tokens()
        return events

    def _read_prompts(self) -> list[tuple[Row, RowEvent]]:
        events, budget = [], PROMPT_TOKENS
        while budget > 0 and (row := self._newcomer()) is not None:
            try:
                logits, taken = self._read(row, budget)
                budget -= taken
                if row.cache.lengths[0] < len(row.prompt):
                    break
                events += self._advance(row, logits)
                if not row.finished:
                    self._cache.join(row.cache)
                    self._live.append(row)
            except (RuntimeError, MemoryError) as error:  # no memory for this one; the others have theirs
                row.finished = True
                events.append((row, Failed(error)))
            self._reading = row.cache = None
        return events

    def _newcomer(self) -> Row | None:
        if self._reading is None and self._waiting and len(self._live) < self.max_rows:
            self._reading = self._waiting.popleft()
        return self._reading

    def _read(self, row: Row, budget: int) -> tuple[Tensor, int]:
        """Read up to `budget` tokens of the prompt: the logits (V,) after the last, and how many there were."""
        row.cache = row.cache or self._cache.new_row(len(row.prompt) + 1)
        begin = row.cache.lengths[0]
        piece = row.prompt[begin : begin + budget]
        return self.model(self._tensor([piece]), cache=row.cache)[0, -1], len(piece)

    def _write_tokens(self) -> list[tuple[Row, RowEvent]]:
        self._cache.make_room()
        last = self._tensor([[row.reply.tokens[-1]] for row in self._live])
        logits = self.model(last, cache=self._cache.live)[:, -1].cpu()  # each row chooses by itself: copied once
        events = [event for row, its_logits in zip(self._live, logits) for event in self._advance(row, its_logits)]
        for index in reversed(range(len(self._live))):  # from the end, because the last row takes a leaving one's place
            if self._live[index].finished:
                self._leave(index)
        return events

    def _leave(self, index: int) -> None:
        self._cache.leave(index)
        self._live[index] = self._live[-1]
        self._live.pop()

    def _advance(self, row: Row, logits: Tensor) -> list[tuple[Row, RowEvent]]:
        """Give a row its next token, one that the tool forces or a choice from its logits (V,); what comes of it."""
        reply = row.reply
        if not reply.pending:
            try:
                [token] = row.sampling.choose(logits[None], [row.source])
            except ValueError as error:  # the model gives NaN
                row.finished = True
                return [(row, Failed(error))]
            if token in self._ends:
                return self._finish(row, "stop")
            reply.pending.append(token)
        events = self._visible(row, reply.add(reply.pending.popleft()))
        if row.stops.found:
            return events + self._finish(row, "stop")
        if len(reply.tokens) == row.limit:
            return events + self._finish(row, "context" if row.limited_by_context else "length")
        return events

    def _finish(self, row: Row, reason: Literal["stop", "length", "context"]) -> list[tuple[Row, RowEvent]]:
        row.finished = True
        rest = self._visible(row, row.reply.finish())
        if held := row.stops.finish():
            rest.append((row, Text(held)))
        return [*rest, (row, Done(reason, len(row.reply.tokens), 0, time.perf_counter() - row.started))]

    def _visible(self, row: Row, events: list[Text | ToolCall]) -> list[tuple[Row, RowEvent]]:
        shown = []
        for event in events:
            if isinstance(event, ToolCall):
                shown.append((row, event))
            elif text := row.stops.take(event.text):
                shown.append((row, Text(text)))
        return shown

    def _tensor(self, ids: list[list[int]]) -> Tensor:
        return torch.tensor(ids, dtype=torch.long, device=self.model.device)
