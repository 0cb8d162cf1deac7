"""Finds conversations that are too long: how many tokens they have, which turns are cut off, what is left to learn."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from nanochat_core.data.report import Fault
from nanochat_core.data.rules import texts
from nanochat_core.paths import default_model, find_model
from nanochat_core.system.words import name_numbers
from nanochat_core.tokenizer.tokenizer import MAX_RUN, Tokenizer

COUNTED_CHARACTERS = 1_000_000
"""Longer conversations are counted only up to here: what lies behind is cut off in any case."""

_SHORTEN = "Shorten it, split it, or raise max_seq_len if the model and the memory allow it."


class LengthCheck:
    """Compares conversations with `max_seq_len` tokens; reads a tokenizer only when one is long enough to need it."""

    def __init__(self, tokenizer: Tokenizer | None, max_seq_len: int):
        self.max_seq_len = max_seq_len
        self.notes: list[str] = []
        self._tokenizer = tokenizer
        self._is_sought = tokenizer is not None

    def fault(self, messages: list[dict[str, Any]], line_bytes: int) -> Fault | None:
        """The fault of one conversation (normalized messages), None when it fits.

        `line_bytes` is the size of its JSON: every token stands for at least one byte of it, since a message's two
        special tokens are shorter than its JSON. So most conversations fit without being tokenized.
        """
        if line_bytes <= self.max_seq_len or self.tokenizer is None:
            return None
        if sum(len(text.encode("utf-8")) + 4 for text in texts(messages)) + len(messages) + 1 <= self.max_seq_len:
            return None
        try:
            return self._too_long(messages)
        except ValueError as error:
            return refused(error)

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What the lengths are counted with, sought when it is first needed; None (and a note) when there is none."""
        if not self._is_sought:
            self._is_sought = True
            self._tokenizer, note = default_tokenizer()
            self.notes += [note] if note else []
        return self._tokenizer

    @property
    def _found(self) -> Tokenizer:
        tokenizer = self.tokenizer
        assert tokenizer is not None, "without one nothing is too long"
        return tokenizer

    def _too_long(self, messages: list[dict[str, Any]]) -> Fault | None:
        for text in texts(messages):
            if len(text) > MAX_RUN:
                self._found.encode(text)  # refuses what the training would refuse
        shortened, is_whole = _shortened(messages, max(COUNTED_CHARACTERS, 200 * self.max_seq_len))
        ids, mask = self._found.render_conversation(shortened, max_tokens=sys.maxsize)
        if len(ids) <= self.max_seq_len:
            return None
        return self.too_long(messages, ids, 1 in mask[: self.max_seq_len], is_whole)

    def too_long(
        self, messages: list[dict[str, Any]], ids: Sequence[int] | np.ndarray, teaches: bool, is_whole: bool = True
    ) -> Fault:
        """The fault of a conversation with more ids than fit. `teaches`: whether any that fits is trained on."""
        size = f"{'' if is_whole else 'more than '}{len(ids):,} tokens, and only {self.max_seq_len:,} fit"
        if not teaches:
            message = f"The conversation has {size}. That cuts off every answer: there is nothing left to learn."
            return Fault("warning", "nothing_to_learn", message, _SHORTEN)
        message = f"The conversation has {size}: {self._what_is_cut(messages, ids)}."
        return Fault("warning", "too_long", message, _SHORTEN)

    def _what_is_cut(self, messages: list[dict[str, Any]], ids: Sequence[int] | np.ndarray) -> str:
        """`message 4 (assistant) is cut off, messages 5 and 6 are lost`."""
        beginnings = [self._found.special(name) for name in ("<|user_start|>", "<|assistant_start|>")]
        starts = np.flatnonzero(np.isin(ids, beginnings)).tolist()
        begun = sum(position < self.max_seq_len for position in starts)
        first = 1 + (messages[0]["role"] == "system")  # the number of the first turn's message
        lost = list(range(first + begun, len(messages) + 1))
        words = []
        if begun == len(starts) or starts[begun] > self.max_seq_len:
            number = first + begun - 1
            words.append(f"message {number} ({messages[number - 1]['role']}) is cut off")
        if lost:
            words.append(f"{name_numbers('message', lost)} {'is' if len(lost) == 1 else 'are'} lost")
        return ", ".join(words)


def refused(error: ValueError) -> Fault:
    """The fault of a conversation that the tokenizer cannot encode."""
    fix = "Shorten that text, or break it up with blanks."
    return Fault("error", "cannot_be_tokenized", f"The tokenizer refuses this conversation: {error}", fix)


def default_tokenizer() -> tuple[Tokenizer | None, str]:
    """(the tokenizer of the model that would be finetuned, what there is to say about it).

    That is the downloaded d32's, or the starter's when d32 is not there or cannot be read. None when neither can.
    """
    reasons = []
    for name in dict.fromkeys((default_model(), "starter")):
        try:
            tokenizer = Tokenizer.from_directory(find_model(name).tokenizer_dir)
        except (ValueError, OSError) as error:
            reasons.append(str(error))
            continue
        note = f"The lengths were counted with the tokenizer of {name}. {reasons[0]}" if reasons else ""
        return tokenizer, note
    return None, f"The length of the conversations was not checked, for want of a tokenizer. {reasons[0]}"


def _shortened(messages: list[dict[str, Any]], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """The messages up to `limit` characters, and whether those are all. Far more than max_seq_len tokens remain."""
    if sum(map(len, texts(messages))) <= limit:
        return messages, True
    kept: list[dict[str, Any]] = []
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            content = content[:limit]
        else:
            content = [{**part, "text": part["text"][:limit]} for part in content]
        kept.append({**message, "content": content})
        limit -= sum(map(len, texts(kept[-1:])))
        if limit <= 0 and message["role"] != "system":
            break
    return kept, False
