"""Letting a model talk: streamed replies with a cache of the turns before, and many prompts at once."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nanochat_core.engine.fitting import Conversation, Prompt, fit_prompt
from nanochat_core.engine.reply import Event, Notice, Text, ToolCall
from nanochat_core.engine.row import Row
from nanochat_core.engine.sampling import Sampling
from nanochat_core.model.gpt import GPT
from nanochat_core.model.kv_cache import KVCache
from nanochat_core.tokenizer.tokenizer import Tokenizer

MAX_CACHE_BYTES = 1 << 30
MAX_ROWS = 128
RESERVED_PART = 8  # at least an eighth of the context (or max_tokens) is kept free for the reply
CACHE_STEP = 256  # tokens; a cache grows by so much that a chat rarely copies it


class Engine:
    """Generates with one model. Keeps the last reply's cache: make a new Engine after the weights have changed."""

    def __init__(self, model: GPT, tokenizer: Tokenizer):
        """ValueError when model and tokenizer do not belong together."""
        if model.config.vocab_size != tokenizer.vocab_size:
            raise ValueError(
                f"The model has {model.config.vocab_size:,} tokens and the tokenizer {tokenizer.vocab_size:,}: they do "
                "not belong together. Put the tokenizer.pkl that came with the model beside it."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.context = model.config.sequence_len
        self._kept: KVCache | None = None

    def stream(
        self,
        messages: Conversation,
        max_tokens: int = 256,
        temperature: float = 0.7,
        top_k: int | None = 50,
        seed: int = 1,
    ) -> Iterator[str]:
        """The visible text of the reply to `messages`, piece by piece: no tool calls, never half a character."""
        events = self.events(messages, max_tokens, temperature, top_k, seed)
        return (event.text for event in events if isinstance(event, Text))

    def reply(
        self,
        messages: Conversation,
        max_tokens: int = 256,
        temperature: float = 0.7,
        top_k: int | None = 50,
        seed: int = 1,
    ) -> str:
        """The visible text of the reply as a whole."""
        return "".join(self.stream(messages, max_tokens, temperature, top_k, seed))

    def events(
        self,
        messages: Conversation,
        max_tokens: int = 256,
        temperature: float = 0.7,
        top_k: int | None = 50,
        seed: int = 1,
    ) -> Iterator[Event]:
        """All that happens: a Notice when the conversation had to be cut, Text, ToolCall, and Done at the end.

        The same arguments give the same reply. ValueError, at once, for malformed messages and settings out of
        range; a conversation that is longer than the context is no error (see `fit_prompt`).
        """
        sampling = Sampling(temperature, top_k, seed)
        _check_max_tokens(max_tokens)
        reserved = min(max_tokens, self.context // RESERVED_PART)
        prompt = fit_prompt(self.tokenizer, messages, self.context - reserved)
        return self._events(prompt, max_tokens, sampling)

    def generate_batch(  # noqa: PLR0913  all but the first two are options
        self,
        prompts: list[list[int]],
        max_tokens: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        seed: int = 0,
        finished: Callable[[int, list[int]], None] = lambda index, ids: None,
        beat: Callable[[], None] = lambda: None,
    ) -> list[list[int]]:
        """The reply's token ids to each prompt (ids as of `render_prompt`), tool calls included, stop tokens not.

        Each row is what its prompt gives alone, random choices included (every row starts from `seed`).
        finished: told the index of each prompt with its reply as soon as that is complete. beat: called after each
        token of a batch; what it raises ends the generation. ValueError for a prompt that is empty or leaves no room
        in the context.
        """
        sampling = Sampling(temperature, top_k, seed)
        _check_max_tokens(max_tokens)
        for number, prompt in enumerate(prompts, start=1):
            if not 0 < len(prompt) < self.context:
                raise ValueError(
                    f"Prompt {number} has {len(prompt):,} tokens; it must have 1 to {self.context - 1:,}, so that the "
                    "model's context has room for a reply. Shorten it."
                )
        replies: list[list[int]] = [[] for _ in prompts]
        for chunk in self._chunks(prompts, max_tokens):
            rows = [self._row(prompts[index], max_tokens, sampling) for index in chunk]
            told: set[int] = set()
            for _ in self._run_rows(rows, sampling):
                for index, row in zip(chunk, rows):
                    if row.finished and index not in told:
                        told.add(index)
                        replies[index] = row.reply.tokens
                        finished(index, replies[index])
                beat()
        return replies

    def _events(self, prompt: Prompt, max_tokens: int, sampling: Sampling) -> Iterator[Event]:
        row = self._row(prompt.ids, max_tokens, sampling)
        if prompt.cut_tokens:
            yield Notice(prompt.notice(self.context))
        yield from self._write(row)
        yield from row.end(prompt.cut_tokens)

    def _write(self, row: Row) -> Iterator[Text | ToolCall]:
        """Generate a reply to its end. What the tool forces is read with the token after it, all at once."""
        cache = self._cache_for(row.prompt, len(row.prompt) + row.limit)
        fed = row.prompt[cache.lengths[0] :]
        try:
            while not row.finished:
                written = len(row.reply.tokens)
                yield from row.take(row.choose(self.model(self._tensor([fed]), cache=cache)))
                while row.forced:
                    yield from row.take()
                fed = row.reply.tokens[written:]
        finally:
            self._kept = cache

    def _cache_for(self, prompt: list[int], capacity: int) -> KVCache:
        """A cache that holds as much of `prompt` (all but its last token at most) as the last reply left."""
        capacity = -(-capacity // CACHE_STEP) * CACHE_STEP
        cache, self._kept = self._kept, None  # taken, so that a second stream at the same time makes its own
        if cache is None:
            return self.model.new_cache(1, capacity)
        known = cache.ids[0, : cache.lengths[0]].tolist()
        cache.truncate(_common_length(known, prompt[:-1]))
        if cache.capacity < capacity:
            cache.grow(1, capacity)
        return cache

    def _row(self, prompt: list[int], max_tokens: int, sampling: Sampling) -> Row:
        return Row(self.tokenizer, self.context, prompt, max_tokens, sampling)

    def _chunks(self, prompts: list[list[int]], max_tokens: int) -> Iterator[list[int]]:
        """Indices of prompts to run together: of like length, as many as fit into MAX_CACHE_BYTES."""
        config = self.model.config
        token_bytes = 2 * config.n_layer * config.n_kv_head * config.head_dim * self.model.compute_dtype.itemsize
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
        while order:
            row_bytes = (len(prompts[order[0]]) + max_tokens) * token_bytes
            size = max(1, min(MAX_ROWS, MAX_CACHE_BYTES // row_bytes))
            yield order[:size]
            order = order[size:]

    def _run_rows(self, rows: list[Row], sampling: Sampling) -> Iterator[None]:
        """Generate all rows to their ends, a token each a time; finished ones leave the batch a quarter at a time."""
        longest = max(len(row.prompt) for row in rows)
        cache = self.model.new_cache(len(rows), longest + max(row.limit for row in rows))
        padded = [row.prompt + [0] * (longest - len(row.prompt)) for row in rows]
        counts = [len(row.prompt) for row in rows]
        while True:
            logits = self.model(self._tensor(padded), lengths=counts, cache=cache)[:, -1]
            self._advance(rows, logits, sampling)
            yield
            live = [index for index, row in enumerate(rows) if not row.finished]
            if not live:
                return
            if len(live) <= 0.75 * len(rows):
                cache.select(live)
                rows = [rows[index] for index in live]
            padded = [[row.reply.tokens[-1] if row.reply.tokens else 0] for row in rows]
            counts = [0 if row.finished else 1 for row in rows]  # a finished row stays where it is

    def _advance(self, rows: list[Row], logits: Tensor, sampling: Sampling) -> None:
        """Let each unfinished row go one token on; all that choose do so at once."""
        choosing = [index for index, row in enumerate(rows) if not row.finished and not row.forced]
        chosen = sampling.choose(logits[choosing], [rows[index].source for index in choosing]) if choosing else []
        tokens = dict(zip(choosing, chosen, strict=True))
        for index, row in enumerate(rows):
            if not row.finished:
                row.take(tokens.get(index))

    def _tensor(self, ids: list[list[int]]) -> Tensor:
        return torch.tensor(ids, dtype=torch.long, device=self.model.device)


MOST_TOKENS = 1 << 20
"""Of one reply: above every model's context."""


def _check_max_tokens(max_tokens: int) -> None:
    if not 1 <= max_tokens <= MOST_TOKENS:
        raise ValueError(f"max_tokens is {max_tokens}; it must be from 1 to {MOST_TOKENS:,}.")


def _common_length(one: list[int], other: list[int]) -> int:
    for index, (left, right) in enumerate(zip(one, other)):
        if left != right:
            return index
    return min(len(one), len(other))
