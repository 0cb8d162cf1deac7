"""From text and conversations to token ids and back, as nanochat does it.

`render_conversation` -> (ids, mask) is the whole data contract of the training; `render_prompt` that of the chat.
Text is always encoded as ordinary text: "<|bos|>" typed by a person is seven plain characters, never the token.
"""

import hashlib
import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tiktoken

from nanochat_core.system.files import write_atomically
from nanochat_core.tokenizer.compiled import CompiledEncoding
from nanochat_core.tokenizer.messages import PART_TYPES, ROLES, not_trained_by, wrong_part
from nanochat_core.tokenizer.pickle_file import (
    REMEDY,
    SPECIAL_TOKENS,
    EncodingState,
    checked_state,
    read_tokenizer_file,
)

FILE_NAME = "tokenizer.pkl"

MAX_RUN = 500_000
"""Characters. From 999,650 blanks in a row on, tiktoken's regex overflows its stack and panics."""

# Each kind of run that nanochat's splitting pattern can take in one piece.
_RUNS = {
    "blanks": re.compile(r"\s+"),
    "letters": re.compile(r"[^\W\d_]+"),
    "symbols": re.compile(r"(?:[^\w\s]|_)++"),  # the underscore is a letter to Python's \w only
}

# A pattern that loses text, matches nothing, or backtracks without end shows it on one of these.
_PROBES = (
    "I'm fine; it's 12,345.6 = é\u00a0日本 🙂\r\n\n\tdone  ",
    *(unit * 64 + end for unit in ("a", "A", " ", "7", "!", "\n", "aB1 ", "é") for end in ("", "!", "a")),
)


class Tokenizer:
    """A nanochat tokenizer: byte pair encoding by tiktoken, and the nine special tokens after its ranks."""

    def __init__(self, state: EncodingState):
        """Takes a checked state; `from_directory`, `from_file` and `from_ranks` make one.

        ValueError when the splitting pattern does not compile, loses text, or fails on ordinary text.
        """
        self._encoding = _guarded(
            tiktoken.Encoding,
            name=state.name,
            pat_str=state.pattern,
            mergeable_ranks=state.ranks,
            special_tokens=state.special_tokens,
        )
        self._special = dict(state.special_tokens)
        self._pieces = sorted(state.ranks, key=state.ranks.__getitem__) + [name.encode() for name in SPECIAL_TOKENS]
        self.vocab_size = len(self._pieces)
        self.special_ids = frozenset(self._special.values())
        self.bos = self.special("<|bos|>")
        self._compiled = CompiledEncoding(
            state.pattern, self._pieces[: len(state.ranks)], self._pieces[len(state.ranks) :]
        )
        self.has_known_pattern = self._compiled.knows_pattern
        """Whether compiled code can encode texts, where there is a compiler."""
        for probe in _PROBES:
            if self.decode(self.encode(probe)) != probe:
                raise ValueError("its splitting pattern loses a part of the text")

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer.pkl; no code from it is run. ValueError (file, what, remedy) for anything odd."""
        state = read_tokenizer_file(Path(path))
        try:
            return cls(state)
        except ValueError as error:
            raise ValueError(f"{path} cannot be used as a tokenizer: {error}. {REMEDY}") from error

    @classmethod
    def from_directory(cls, folder: str | Path) -> "Tokenizer":
        """Read tokenizer.pkl from `folder` or from its subfolder tokenizer/."""
        for place in (Path(folder), Path(folder) / "tokenizer"):
            if (place / FILE_NAME).exists():
                return cls.from_file(place / FILE_NAME)
        raise ValueError(f"{folder} has no {FILE_NAME}, neither there nor in a subfolder tokenizer/. {REMEDY}")

    @classmethod
    def from_ranks(cls, mergeable_ranks: dict[bytes, int], pattern: str, name: str = "nanochat") -> "Tokenizer":
        """A new tokenizer from byte strings and their ranks (0 to n-1); the nine special tokens get n to n+8."""
        special_tokens = {token: len(mergeable_ranks) + i for i, token in enumerate(SPECIAL_TOKENS)}
        state = {
            "name": name,
            "pat_str": pattern,
            "mergeable_ranks": mergeable_ranks,
            "special_tokens": special_tokens,
        }
        try:
            return cls(checked_state(state))
        except ValueError as error:
            raise ValueError(f"The tokenizer {name!r} cannot be made: {error}.") from error

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.pkl that nanochat's own `pickle.load` reads (protocol 4, as Python 3.11 to 3.13 write)."""
        write_atomically(Path(path), pickle.dumps(self._encoding, protocol=4))

    def special(self, name: str) -> int:
        """The id of one of SPECIAL_TOKENS, by its full name such as "<|bos|>"."""
        return self._special[name]

    def encode(self, text: str) -> list[int]:
        """The ids of a text, never special ones.

        ValueError for half a surrogate pair and for a run of more than MAX_RUN blanks, letters or symbols.
        """
        _refuse_lone_surrogates(text)
        if len(text) > MAX_RUN:
            _refuse_long_runs(text)
        return _guarded(self._encoding.encode_ordinary, text)

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of several texts. In turn: tiktoken's threads only cost time for texts of a chat's length."""
        return [self.encode(text) for text in texts]

    def encode_marked(self, text: str) -> np.ndarray:
        """uint32 ids of a text in which a special token's name is that token: never for what a person has written.

        ValueError when the splitting pattern fails. The parts between special tokens are encoded each for itself.
        """
        ids = self._compiled.encode(text)
        if ids is not None:
            return ids
        return _guarded(self._encoding.encode_to_numpy, text, allowed_special="all")

    def fingerprint(self) -> str:
        """64 hex digits that differ between tokenizers which would encode differently."""
        digest = hashlib.sha256(repr((self._encoding._pat_str, sorted(self._special.items()))).encode())
        for piece in self._pieces:
            digest.update(b"%d:%b" % (len(piece), piece))
        return digest.hexdigest()

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that these ids stand for; a special token gives its name. ValueError for an id out of range."""
        pieces, size = self._pieces, self.vocab_size
        ids = list(ids)
        for token in ids:
            if not 0 <= token < size:
                raise ValueError(f"The token id {token} is not in this tokenizer: it has the ids 0 to {size - 1}.")
        return b"".join([pieces[token] for token in ids])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def token_bytes(self) -> list[int]:
        """Bytes per token id, 0 for special tokens: what bits per byte are counted with."""
        return [0 if token in self.special_ids else len(piece) for token, piece in enumerate(self._pieces)]

    def render_conversation(
        self, conversation: dict[str, Any] | list[Any], max_tokens: int = 2048
    ) -> tuple[list[int], list[int]]:
        """Ids of a whole conversation and their mask: 1 where the model is trained to say that token.

        `conversation` is {"messages": [...]} or the bare list. Both results have the same length, at most
        `max_tokens`; the rest is cut off at the right. An answer that its message marks as not to be trained
        ("train": false, "weight": 0 and their like) is context. ValueError says which message is malformed and how to
        fix it.
        """
        assert max_tokens >= 1
        ids, mask = self._render(_turns(conversation))
        return ids[:max_tokens], mask[:max_tokens]

    def render_prompt(self, messages: dict[str, Any] | list[Any]) -> list[int]:
        """Ids after which the model writes: the turns (not a last one of the assistant), then <|assistant_start|>."""
        turns = _turns(messages)
        if turns[-1].role == "assistant":
            turns.pop()
        return [*self._render(turns)[0], self.special("<|assistant_start|>")]

    def _render(self, turns: list["_Turn"]) -> tuple[list[int], list[int]]:
        ids, mask = [self.bos], [0]
        for number, role, content, is_trained in turns:
            try:
                for token_ids, trained in self._render_turn(role, content):
                    ids += token_ids
                    mask += [trained * is_trained] * len(token_ids)
            except ValueError as error:
                raise ValueError(f"Message {number}: {error}") from error
        return ids, mask

    def _render_turn(self, role: str, content: Any) -> Iterable[tuple[list[int], int]]:
        """Pairs of ids and 1 (trained) or 0."""
        yield [self.special(f"<|{role}_start|>")], 0
        if isinstance(content, str):
            yield self.encode(content), int(role == "assistant")
        else:
            for part in content:
                yield self._render_part(part), int(part["type"] != "python_output")
        yield [self.special(f"<|{role}_end|>")], int(role == "assistant")

    def _render_part(self, part: dict[str, str]) -> list[int]:
        ids = self.encode(part["text"])
        if part["type"] == "text":
            return ids
        kind = {"python": "python", "python_output": "output"}[part["type"]]
        return [self.special(f"<|{kind}_start|>"), *ids, self.special(f"<|{kind}_end|>")]


class _Turn(NamedTuple):
    number: int
    """The message's number, from 1."""
    role: str
    content: Any
    is_trained: bool = True


def _turns(conversation: Any) -> list[_Turn]:
    """The turns, user first; a system message joins the first user's."""
    messages = conversation.get("messages") if isinstance(conversation, dict) else conversation
    if not isinstance(messages, list) or not messages:
        raise ValueError('A conversation must be {"messages": [...]} or a list, with at least one message.')
    turns = [_checked_message(number, message) for number, message in enumerate(messages, start=1)]
    if turns[0].role == "system":
        turns = _merge_system(turns)
    for position, (number, role, *_) in enumerate(turns):
        expected = ("user", "assistant")[position % 2]
        if role != expected:
            raise ValueError(
                f"Message {number} is from {role!r} where {expected!r} has its turn: after an optional first system "
                "message, user and assistant must alternate, user first."
            )
    return turns


def _merge_system(turns: list[_Turn]) -> list[_Turn]:
    if len(turns) < 2 or turns[1].role != "user":
        raise ValueError("After the system message a message of the user must follow.")
    return [turns[1]._replace(content=f"{turns[0].content}\n\n{turns[1].content}"), *turns[2:]]


def _checked_message(number: int, message: Any) -> _Turn:
    if not isinstance(message, dict) or "role" not in message or "content" not in message:
        raise ValueError(f'Message {number} must be an object with "role" and "content".')
    role, content = message["role"], message["content"]
    if role not in ROLES:
        named = f"the role {role!r:.40}" if isinstance(role, str) else "a role that is not a text"
        raise ValueError(f"Message {number} has {named}: use {', '.join(ROLES[:-1])} or {ROLES[-1]}.")
    if isinstance(content, list) and role == "assistant":
        for part in content:
            if wrong_part(part):
                kinds = ", ".join(PART_TYPES)
                raise ValueError(f'Message {number}: each part must be {{"type": ..., "text": ...}}, its type {kinds}.')
    elif not isinstance(content, str):
        parts = " or a list of parts" if role == "assistant" else ""
        raise ValueError(f"Message {number} ({role}) must have a text{parts} as its content.")
    return _Turn(number, role, content, not_trained_by(message) is None)


def _refuse_lone_surrogates(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(
            f"character {error.start + 1} of the text is half of a surrogate pair (U+{code:04X}), which is not a "
            "character: remove it."
        ) from error


def _refuse_long_runs(text: str) -> None:
    """ValueError for a run of more than MAX_RUN characters of one kind.

    A longer run covers one of the places k * MAX_RUN, so it is enough to look around those.
    """
    for place in range(0, len(text), MAX_RUN):
        for kind, pattern in _RUNS.items():
            after = pattern.match(text, place)
            if after is None:
                continue
            before = pattern.match(text[max(0, place - MAX_RUN) : place][::-1])
            length = after.end() - place + (before.end() if before else 0)
            if length > MAX_RUN:
                raise ValueError(
                    f"the text has {length:,} {kind} in a row around character {place + 1:,}, more than the "
                    f"{MAX_RUN:,} that can be encoded: shorten them."
                )


def _guarded(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call into tiktoken; a panic of its Rust code (which is no Exception) becomes a ValueError."""
    try:
        return call(*arguments, **named)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # the class cannot be imported
            raise
        raise ValueError("the tokenizer's splitting pattern fails on this text") from error
