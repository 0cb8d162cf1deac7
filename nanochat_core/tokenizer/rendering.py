"""Many conversations to token ids at once: one call of the tokenizer for hundreds of them, no Python work per token.

The ids and masks are those of `Tokenizer.render_conversation`, which stays the contract; a test holds the two equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from nanochat_core.tokenizer.tokenizer import Tokenizer

LONGEST_IN_A_BATCH = 100_000
"""Characters. Longer conversations go alone: what is refused in one must not hold up the others."""

Messages = list[dict[str, Any]]

_PART_MARKS = {
    "text": ("", ""),
    "python": ("<|python_start|>", "<|python_end|>"),
    "python_output": ("<|output_start|>", "<|output_end|>"),
}
_TRAINED = ("<|assistant_end|>", "<|python_start|>", "<|python_end|>")
"""Special tokens that the model is trained to say."""
_TRAINED_AFTER = ("<|assistant_start|>", "<|python_start|>", "<|python_end|>", "<|output_end|>")
"""Special tokens after which the text is the model's own."""


class Rendering:
    """Renders conversations that have passed `judge` with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.int32)
        self._first_special = min(tokenizer.special_ids)
        self._trained, self._trained_after = (self._table(names) for names in (_TRAINED, _TRAINED_AFTER))

    def ids(self, conversations: Sequence[Messages]) -> list[np.ndarray | ValueError]:
        """The ids of each, whole; a ValueError (what and where, as render_conversation says it) for one without."""
        marked = [_marked_up(messages) for messages in conversations]
        encoded = self._together([text for text in marked if text is not None])
        if not encoded:
            return [self._alone(messages) for messages in conversations]
        together = iter(encoded)
        return [
            self._alone(messages) if text is None else next(together) for messages, text in zip(conversations, marked)
        ]

    def mask(self, ids: np.ndarray) -> np.ndarray:
        """bool, as long as `ids`, where the model is trained to say that token. May span several conversations.

        The special tokens alone tell: each says whether it is trained itself and whether the text after it is.
        """
        marks = np.flatnonzero(ids >= self._first_special)
        which = ids[marks] - self._first_special
        mask = np.repeat(self._trained_after[which], np.diff(marks, append=len(ids)))
        mask[marks] = self._trained[which]
        return mask

    def supervised(self, ids: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """How many tokens the model is trained to say in each of the conversations, `sizes` ids each, after another.

        Marks of messages (`untrained`) are not known here.
        """
        starts = np.cumsum(sizes, dtype=np.intp) - sizes
        # <|bos|>, the first of each, is no target and is not in the mask.
        return np.add.reduceat(self.mask(ids), starts, dtype=np.uint32)

    def untrained(self, ids: np.ndarray, messages: Messages) -> list[tuple[int, int]]:
        """[start, end) of each of the assistant's turns that is marked as not to be trained; the ids may be cut short.

        `messages` have passed `judge`, which writes such marks as "train": False.
        """
        answers = [message.get("train", True) for message in messages if message["role"] == "assistant"]
        if all(answers):
            return []
        start, end = (
            np.flatnonzero(ids == self.tokenizer.special(f"<|assistant_{edge}|>")).tolist() for edge in ("start", "end")
        )
        ends = [at + 1 for at in end] + [len(ids)]
        return [(at + 1, ends[place]) for place, at in enumerate(start) if not answers[place]]

    def rejected(self, ids: np.ndarray, messages: Messages, most: int) -> "list[Rejected]":
        """The rejected answers of a conversation whose ids, at most `most`, are `ids`, each after what came before it.

        Left out: where the answer or the rejected one does not fit whole, or where the answer is not to be trained.
        """
        start, end = (
            np.flatnonzero(ids == self.tokenizer.special(f"<|assistant_{edge}|>")).tolist() for edge in ("start", "end")
        )
        answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        found = []
        for turn, place in enumerate(answers[: len(end)]):
            message = messages[place]
            if "rejected" in message and message.get("train", True):
                other = self._alone([*messages[:place], {"role": "assistant", "content": message["rejected"]}])
                if isinstance(other, ValueError) or len(other) > most:
                    continue
                mask = self.mask(other)
                mask[: start[turn] + 1] = False  # both begin alike up to here
                found.append(Rejected(other.astype(np.int32), mask, (start[turn] + 1, end[turn] + 1)))
        return found

    def trained(self, ids: np.ndarray, messages: Messages) -> np.ndarray:
        """bool, as long as `ids` of one conversation: its mask, marks of its messages included."""
        mask = self.mask(ids)
        for start, end in self.untrained(ids, messages):
            mask[start:end] = False
        return mask

    def _together(self, texts: list[str]) -> list[np.ndarray] | None:
        """One encoding for all, cut at each <|bos|>. None when the tokenizer refuses: which one it was is not known."""
        try:
            ids = self.tokenizer.encode_marked("".join(texts)).astype(self.dtype)
        except ValueError:
            return None
        starts = np.flatnonzero(ids == self.tokenizer.bos).tolist()
        assert len(starts) == len(texts)
        return [ids[start:end] for start, end in zip(starts, [*starts[1:], len(ids)])]

    def _alone(self, messages: Messages) -> np.ndarray | ValueError:
        try:
            ids, _ = self.tokenizer.render_conversation(messages, max_tokens=1 << 62)
        except ValueError as error:
            return error
        return np.array(ids, self.dtype)

    def _table(self, names: tuple[str, ...]) -> np.ndarray:
        special = sorted(self.tokenizer.special_ids)
        return np.isin(special, [self.tokenizer.special(name) for name in names])


def _marked_up(messages: Messages) -> str | None:
    """The conversation as text with its special tokens written out. None when it must go alone.

    That is: when it is long, when a text holds "<|" (a person's "<|bos|>" is seven characters and must not become the
    token), and when two parts would touch that the tokenizer must not see as one text.
    """
    contents = [message["content"] for message in messages]
    parts = 0  # special tokens within the contents
    if messages[0]["role"] == "system":
        contents[:2] = [f"{contents[0]}\n\n{contents[1]}"]
    for place, content in enumerate(contents):
        if type(content) is not str:
            contents[place] = content = _marked_up_parts(content)
            if content is None:
                return None
            parts += content.count("<|")
    text = _frame(len(contents)) % tuple(contents)
    if len(text) > LONGEST_IN_A_BATCH:
        return None
    marks = 1 + 2 * len(contents) + parts
    return text if "<" not in "".join(contents) or text.count("<|") == marks else None  # counting takes twenty times


@lru_cache
def _frame(count: int) -> str:
    """A conversation of `count` turns with %s for what is said."""
    turn = "<|user_start|>%s<|user_end|><|assistant_start|>%s<|assistant_end|>"
    return "<|bos|>" + turn * (count // 2)


def _marked_up_parts(parts: list[dict[str, str]]) -> str | None:
    if any("<|" in part["text"] for part in parts):
        return None
    if any(one["type"] == two["type"] == "text" for one, two in pairwise(parts)):
        return None
    return "".join([f"{_PART_MARKS[part['type']][0]}{part['text']}{_PART_MARKS[part['type']][1]}" for part in parts])


@dataclass(frozen=True, eq=False)
class Rejected:
    """An answer that another one was preferred to, after the same beginning."""

    ids: np.ndarray
    """int32 token ids (T,) of the conversation up to it, and it."""
    mask: np.ndarray
    """bool (T,): its own tokens, as they would be trained."""
    chosen: tuple[int, int]
    """[start, end) of the answer that was preferred, in the ids of the whole conversation."""


@dataclass(frozen=True)
class Example:
    """One rendered conversation."""

    ids: np.ndarray
    """int32 token ids, (T,)."""
    mask: np.ndarray
    """bool (T,): which tokens are trained on."""
    index: int
    """Which conversation of the file it is, from 0."""
    cut: bool = False
    """Whether the conversation was longer than the context."""
    is_replay: bool = False
    """Whether it comes from the replayed file, in which `index` counts."""
    rejected: tuple[Rejected, ...] = ()
    """Answers to learn not to give, where that was asked for."""

    @property
    def inputs(self) -> int:
        """Tokens that go through the model: of each sequence all but the last, which is only ever a target."""
        return len(self.ids) - 1 + sum(len(one.ids) - 1 for one in self.rejected)

    @property
    def supervised(self) -> int:
        """Targets that count in the loss. The first token is no target."""
        return int(self.mask[1:].sum())


def render(conversations: Sequence[dict[str, Any]], tokenizer: Tokenizer, max_seq_len: int) -> list[Example]:
    """Every conversation as ids and mask, at most `max_seq_len` tokens each."""
    examples = []
    for index, conversation in enumerate(conversations):
        ids, mask = tokenizer.render_conversation(conversation, max_tokens=max_seq_len + 1)
        cut = len(ids) > max_seq_len
        ids, mask = ids[:max_seq_len], mask[:max_seq_len]
        examples.append(Example(np.asarray(ids, np.int32), np.asarray(mask, bool), index, cut))
    return examples
