"""A conversation's tokens as a person can read them: stretches trained, context or cut off, and their counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from nanochat_core.system.words import plural
from nanochat_core.tokenizer.tokenizer import Tokenizer

KINDS = {
    "trained": "Trained: the model learns to say this",
    "context": "Context: only read",
    "cut": "Cut off: beyond the longest conversation",
}

_MOST_JOINED = 8  # tokens; bytes that never become a character must not wait for ever


@dataclass(frozen=True)
class TokenCounts:
    """The counts of one conversation; trained + context + cut = total. Special tokens are among them."""

    total: int
    trained: int
    context: int
    cut: int
    special: int

    @property
    def facts(self) -> dict[str, str]:
        """The counts by the names under which they are shown."""
        shown = ("Tokens", self.total), ("trained", self.trained), ("context", self.context), ("cut off", self.cut)
        return {name: f"{count:,}" for name, count in (*shown, ("special", self.special))}

    def remarks(self, max_seq_len: int) -> list[tuple[str, str]]:
        """(warn or bad, sentence) for what a person should know of the conversation."""
        found = []
        if self.cut:
            cut = f"{plural(self.cut, 'token')} are cut off"
            found.append(("warn", f"Only the first {max_seq_len:,} tokens are used; {cut}."))
        if not self.trained:
            found.append(("bad", "Nothing here is trained: there is no answer to learn within this length."))
        return found


@dataclass(frozen=True)
class Piece:
    """One token, or the several that only together make a character."""

    ids: tuple[int, ...]
    text: str
    """A special token's name stands without its `<|` and `|>`."""
    special: bool

    @property
    def visible(self) -> str:
        """The text with its line ends and tabs to be seen."""
        return self.text.replace("\r", "␍").replace("\n", "↵\n").replace("\t", "→\t")


@dataclass(frozen=True)
class Stretch:
    """Neighbouring tokens of one of KINDS."""

    kind: str
    pieces: tuple[Piece, ...]


def count_tokens(ids: Sequence[int], mask: Sequence[int], max_seq_len: int, special: frozenset[int]) -> TokenCounts:
    """Counts of a whole rendered conversation of which the first `max_seq_len` tokens are used.

    The first token is no target, so it is never trained.
    """
    kept = ids[:max_seq_len]
    trained = sum(mask[1:max_seq_len])
    specials = sum(token in special for token in ids)
    return TokenCounts(len(ids), trained, len(kept) - trained, len(ids) - len(kept), specials)


def stretches(
    ids: Sequence[int], mask: Sequence[int], tokenizer: Tokenizer, max_seq_len: int, shown: int | None = None
) -> list[Stretch]:
    """The first `shown` tokens (default: all) in order, as stretches of one kind each."""
    kinds = ["cut" if place >= max_seq_len else "trained" if mask[place] else "context" for place in range(len(ids))]
    pairs = list(zip(ids, kinds, strict=True))[:shown]
    found = groupby(pairs, key=lambda pair: pair[1])
    return [Stretch(kind, tuple(_pieces([token for token, _ in run], tokenizer))) for kind, run in found]


def _pieces(ids: list[int], tokenizer: Tokenizer) -> Iterator[Piece]:
    """Each token; tokens that are parts of one character together, since alone they are no text."""
    waiting: list[int] = []
    for token in ids:
        if token in tokenizer.special_ids:
            if waiting:
                yield _joined(waiting, tokenizer)
                waiting = []
            yield Piece((token,), tokenizer.decode([token]).strip("<|>"), special=True)
            continue
        waiting.append(token)
        if len(waiting) > _MOST_JOINED or _is_text(tokenizer.decode_bytes(waiting)):
            yield _joined(waiting, tokenizer)
            waiting = []
    if waiting:
        yield _joined(waiting, tokenizer)


def _joined(ids: list[int], tokenizer: Tokenizer) -> Piece:
    return Piece(tuple(ids), tokenizer.decode(ids), special=False)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
