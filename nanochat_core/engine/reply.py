"""A reply in the making: visible text, the model's calculator calls, and the results put into its mouth."""

import codecs
from collections import deque
from dataclasses import dataclass
from typing import Literal

from nanochat_core.calculator import calculate, format_result
from nanochat_core.tokenizer.tokenizer import Tokenizer

Reason = Literal["stop", "length", "context", "stopped"]
"""Why a reply is over: the model ended it, max_tokens are written, the context is full, or it was asked to stop."""


@dataclass(frozen=True)
class Text:
    """A piece of the visible reply; whole characters only."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """The model asked the calculator; `output` is None when the expression was refused."""

    expression: str
    output: str | None


@dataclass(frozen=True)
class Notice:
    """Something that the person should know before the reply, as a sentence."""

    text: str


@dataclass(frozen=True)
class Done:
    """The end of a reply."""

    reason: Reason
    tokens: int
    """Tokens of the reply, tool calls and their results included, the stop token not."""
    cut_tokens: int
    """Tokens of the conversation that the model did not see."""
    seconds: float


Event = Text | ToolCall | Notice | Done

EVENTS: dict[str, type[Event]] = {"text": Text, "tool": ToolCall, "notice": Notice, "done": Done}
"""The names that they have outside this process; see nanochat_core.serve.messages."""


class Reply:
    """Takes the tokens one by one. After a call of the tool, `pending` holds the tokens that must come next.

    As in nanochat: a refused expression forces nothing, and the model goes on by itself.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.tokens: list[int] = []
        self.pending: deque[int] = deque()
        self._expression: list[int] | None = None  # what came since <|python_start|>
        self._inside_output = False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> list[Text | ToolCall]:
        """Append a token (sampled, or taken from `pending`) and give what it makes visible."""
        self.tokens.append(token)
        if token in self.tokenizer.special_ids:
            return self._add_special(self.tokenizer.decode([token]))
        if self._expression is not None:
            self._expression.append(token)
            return []
        if self._inside_output:
            return []
        return _as_text(self._decoder.decode(self.tokenizer.decode_bytes([token])))

    def finish(self) -> list[Text | ToolCall]:
        """What is left of a character that never came to its end, as U+FFFD."""
        return _as_text(self._decoder.decode(b"", final=True))

    def _add_special(self, name: str) -> list[Text | ToolCall]:
        events = self.finish()  # a character does not go on behind a special token
        if name == "<|python_end|>" and self._expression is not None:
            events.append(self._call(self.tokenizer.decode(self._expression)))
        self._expression = [] if name == "<|python_start|>" else None
        self._inside_output = name == "<|output_start|>"
        return events

    def _call(self, expression: str) -> ToolCall:
        value = calculate(expression)
        if value is None:
            return ToolCall(expression, None)
        output = format_result(value)
        special = self.tokenizer.special
        self.pending.extend([special("<|output_start|>"), *self.tokenizer.encode(output), special("<|output_end|>")])
        return ToolCall(expression, output)


def _as_text(text: str) -> list[Text | ToolCall]:
    return [Text(text)] if text else []
