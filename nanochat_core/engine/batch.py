"""Many replies at once, each begun when it is asked for: requests join and leave a batch between decode steps.

A newcomer's prompt is read by itself, in pieces, into a cache of its own, and the others go on in between; then its
row joins theirs. So a reply that is alone takes the very path of `Engine`, and one among others differs by rounding.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nanochat_core.engine.reply import Done, Text, ToolCall
from nanochat_core.engine.row import Row
from nanochat_core.engine.sampling import Sampling
from nanochat_core.model.gpt import GPT
from nanochat_core.model.kv_cache import KVCache
from nanochat_core.tokenizer.tokenizer import Tokenizer

CACHE_STEP = 256
"""Tokens by which the rows of the cache grow, so that they are copied once in so many decode steps."""
PROMPT_TOKENS = 256
"""Tokens of prompts read between two decode steps: the longest that the others are kept waiting."""


@dataclass(frozen=True)
class Failed:
    """The reply came to nothing; the last of its events, in place of Done."""

    error: Exception


RowEvent = Text | ToolCall | Done | Failed


class Batch:
    """Generates for up to `max_rows` requests at once; more of them wait. Not to be called from several threads."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, max_rows: int):
        self.model, self.tokenizer, self.max_rows = model, tokenizer, max_rows
        self._waiting: deque[Row] = deque()
        self._reading: Row | None = None
        self._prompt: KVCache | None = None
        """Keys and values of the prompt that is being read."""
        self._live: list[Row] = []  # in the order of the cache's rows
        self._cache = RowCache(model.new_cache, max_rows)

    def new_row(self, prompt: list[int], max_tokens: int, sampling: Sampling, stops: tuple[str, ...] = ()) -> Row:
        """A request for `add`. `prompt` (ids as of `render_prompt`) must leave room for a token in the context."""
        context = self.model.config.sequence_len
        assert 0 < len(prompt) < context
        assert max_tokens >= 1
        return Row(self.tokenizer, context, prompt, max_tokens, sampling, stops)

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
            self._reading = self._prompt = None
        elif row in self._waiting:
            self._waiting.remove(row)

    def clear(self) -> None:
        """Drop every request."""
        self._waiting.clear()
        self._live.clear()
        self._reading = self._prompt = None
        self._cache.clear()

    def step(self) -> list[tuple[Row, RowEvent]]:
        """Read a piece of the newcomers' prompts, and write one token of each live reply; what came of it, in order."""
        events = self._read_prompts()
        if self._live:
            events += self._write_tokens()
        return events

    def _read_prompts(self) -> list[tuple[Row, RowEvent]]:
        events: list[tuple[Row, RowEvent]] = []
        budget = PROMPT_TOKENS
        while budget > 0 and (row := self._newcomer()) is not None:
            try:
                logits, taken = self._read(row, budget)
                budget -= taken
                if logits is None:
                    break
                events += self._advance(row, logits)
                if not row.finished:
                    self._join(row)
            except (RuntimeError, MemoryError) as error:  # no memory for this one; the others have theirs
                row.finished = True
                events.append((row, Failed(error)))
            self._reading = self._prompt = None
        return events

    def _newcomer(self) -> Row | None:
        if self._reading is None and self._waiting and len(self._live) < self.max_rows:
            self._reading = self._waiting.popleft()
        return self._reading

    def _read(self, row: Row, budget: int) -> tuple[Tensor | None, int]:
        """Read up to `budget` tokens of the prompt: the logits (1, V) after its last one, and how many were read."""
        self._prompt = cache = self._prompt or self._cache.new_row(len(row.prompt) + 1)
        begin = cache.lengths[0]
        piece = row.prompt[begin : begin + budget]
        logits = self.model(self._tensor([piece]), cache=cache)[:, -1]
        return logits if cache.lengths[0] == len(row.prompt) else None, len(piece)

    def _join(self, row: Row) -> None:
        assert self._prompt is not None
        self._cache.join(self._prompt)
        self._live.append(row)

    def _write_tokens(self) -> list[tuple[Row, RowEvent]]:
        cache = self._cache.make_room()
        last = self._tensor([[row.reply.tokens[-1]] for row in self._live])
        logits = self.model(last, cache=cache)[:, -1].cpu()  # each row chooses by itself: copied once
        events = [
            event for row, its_logits in zip(self._live, logits) for event in self._advance(row, its_logits[None])
        ]
        for index in reversed(range(len(self._live))):  # from the end, because the last row takes a leaving one's place
            if self._live[index].finished:
                self._leave(index)
        return events

    def _leave(self, index: int) -> None:
        self._cache.leave(index)
        self._live[index] = self._live[-1]
        self._live.pop()

    def _advance(self, row: Row, logits: Tensor) -> list[tuple[Row, RowEvent]]:
        """Let a row go one token on, with its logits (1, V); what comes of it."""
        try:
            events: list[RowEvent] = [*row.take(None if row.forced else row.choose(logits))]
        except ValueError as error:  # the model gives NaN
            row.finished = True
            return [(row, Failed(error))]
        if row.finished:
            events += row.end()
        return [(row, event) for event in events]

    def _tensor(self, ids: list[list[int]]) -> Tensor:
        return torch.tensor(ids, dtype=torch.long, device=self.model.device)


class RowCache:
    """Rows of a cache that join and leave. `live` is the cache of those that are there, None when there are none.

    Nothing is reserved for a reply's greatest length: a short reply costs a short row. An empty one holds no memory.
    """

    def __init__(self, new_cache: Callable[[int, int], KVCache], max_rows: int):
        """`new_cache` makes a cache of (rows, capacity in tokens)."""
        self._new_cache, self._max_rows = new_cache, max_rows
        self._whole: KVCache | None = None
        self.live: KVCache | None = None

    def new_row(self, tokens: int) -> KVCache:
        """A cache of one row with room for `tokens`, to be filled and then given to `join`."""
        return self._new_cache(1, _rounded(tokens))

    def join(self, row: KVCache) -> None:
        """Add a row at the end. The row's own cache is not to be used afterwards."""
        lengths: list[int] = []
        whole = row
        if self.live is not None:
            lengths = self.live.lengths
            whole = self._reserve(len(lengths) + 1, max(*lengths, row.lengths[0]))
            whole.copy_row(len(lengths), row)
        self._whole, self.live = whole, whole.view([*lengths, row.lengths[0]])

    def leave(self, row: int) -> None:
        """Remove a row; the last one takes its place."""
        whole, live = self._held()
        *lengths, last = live.lengths
        if not lengths:
            self.clear()
            return
        if row < len(lengths):
            live.copy_row(row, live, len(lengths))
            lengths[row] = last
        self.live = whole.view(lengths)

    def make_room(self) -> KVCache:
        """The live rows, each with room for one more token."""
        lengths = self._held()[1].lengths
        self._reserve(len(lengths), max(lengths) + 1)
        return self._held()[1]

    def clear(self) -> None:
        """Remove every row."""
        self._whole = self.live = None

    def _held(self) -> tuple[KVCache, KVCache]:
        assert self._whole is not None
        assert self.live is not None
        return self._whole, self.live

    def _reserve(self, rows: int, tokens: int) -> KVCache:
        """The whole cache, grown where it holds fewer rows or tokens."""
        whole = self._held()[0]
        present, capacity = len(whole.lengths), whole.capacity
        if rows > present or tokens > capacity:
            lengths = self._held()[1].lengths
            self.live = None  # the view, here or in a caller, would keep the old memory alive
            rows = max(present, min(self._max_rows, 1 << (rows - 1).bit_length()))
            whole.grow(rows, max(capacity, _rounded(tokens)))
            self.live = whole.view(lengths)
        return whole


def _rounded(tokens: int) -> int:
    return -(-tokens // CACHE_STEP) * CACHE_STEP
