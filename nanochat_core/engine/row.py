"""One reply being written, whichever loop feeds the model: its next token, what becomes visible, when it is over."""

import time

from torch import Tensor

from nanochat_core.engine.reply import Done, Reason, Reply, Text, ToolCall
from nanochat_core.engine.sampling import Sampling
from nanochat_core.tokenizer.tokenizer import Tokenizer


class Row:
    """A prompt and its reply. The loops differ in how they feed the model; what its logits become is told here.

    While it is not `finished`, it takes one token after the other: a choice from the model's logits, except where the
    calculator has spoken and its words are `forced`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        context: int,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        stops: tuple[str, ...] = (),
    ):
        """`context` is the most tokens that the model takes, those of `prompt` (ids as of `render_prompt`) included."""
        room = context - len(prompt)
        self.prompt, self.sampling = prompt, sampling
        self.limit = min(max_tokens, room)
        self.source = sampling.source()
        self.reply = Reply(tokenizer)
        self.finished = False
        """Whether it takes no more tokens."""
        self.reason: Reason | None = None
        """Why it came to its end; None while it has not, and where it failed."""
        self.end_token: int | None = None
        """The special token by which the model ended it; it is no part of the reply."""
        self._limited_by: Reason = "context" if room < max_tokens else "length"
        self._ends = {tokenizer.bos, tokenizer.special("<|assistant_end|>")}
        self._stops = StopStrings(stops)
        self._started = time.perf_counter()
        if self.limit <= 0:
            self._finish(self._limited_by)

    @property
    def forced(self) -> bool:
        """Whether the next token is the tool's, so that there is nothing to choose."""
        return not self.finished and bool(self.reply.pending)

    def choose(self, logits: Tensor) -> int:
        """The next token from its logits (1, V). ValueError when the model gives NaN."""
        [token] = self.sampling.choose(logits, [self.source])
        return token

    def take(self, token: int | None = None) -> list[Text | ToolCall]:
        """Go one token on: by the one that was chosen, or by the forced one. What it makes visible."""
        assert not self.finished
        assert self.forced == (token is None)
        if token in self._ends:
            self.end_token = token
            self._finish("stop")
            return []
        events = self._visible(self.reply.add(self.reply.pending.popleft() if token is None else token))
        if self._stops.found:
            self._finish("stop")
        elif len(self.reply.tokens) == self.limit:
            self._finish(self._limited_by)
        return events

    def end(self, cut_tokens: int = 0) -> list[Text | ToolCall | Done]:
        """The last events of a finished reply: what was held back, and Done."""
        assert self.reason is not None
        rest = self._visible(self.reply.finish())
        if held := self._stops.finish():
            rest.append(Text(held))
        return [*rest, Done(self.reason, len(self.reply.tokens), cut_tokens, time.perf_counter() - self._started)]

    def _finish(self, reason: Reason) -> None:
        self.finished, self.reason = True, reason

    def _visible(self, events: list[Text | ToolCall]) -> list[Text | ToolCall]:
        shown: list[Text | ToolCall] = []
        for event in events:
            if isinstance(event, ToolCall):
                shown.append(event)
            elif text := self._stops.take(event.text):
                shown.append(Text(text))
        return shown


class StopStrings:
    """Takes a text piece by piece and gives what surely shows: what may be the beginning of a stop string waits."""

    def __init__(self, stops: tuple[str, ...] = ()):
        """`stops` are not empty; the text ends before whichever is complete first."""
        assert all(stops)
        self._stops = stops
        self._held = ""
        self.found = False
        """Whether a stop string has come; nothing is visible from then on."""

    def take(self, piece: str) -> str:
        """What becomes visible with the next piece."""
        if self.found:
            return ""
        text = self._held + piece
        ends = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)[1]]
        visible = len(text) - max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[visible:]
        return text[:visible]

    def finish(self) -> str:
        """What waited, when the text is over without a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` with which `stop` may have begun."""
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(stop[:length])), 0)
