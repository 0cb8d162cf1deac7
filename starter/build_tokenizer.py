"""The starter's tokenizer: 4,096 tokens, made so that copying a word out of the conversation is easy.

Merges are learned on words without the blank before them; afterwards the commonest pieces get a second token with
a blank in front, which ranks below all others. So " strawberry" and "'strawberry" fall into the same pieces, but
for the blank of the first, and a small model can copy words that it has never seen. Digits stay single.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import rustbpe

from nanochat_core.tokenizer.compiled import STARTER_PATTERN
from nanochat_core.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer
from starter.draw import WORDS_FOLDER
from starter.exchange import Content
from starter.generate import conversation

VOCAB_SIZE = 4096
LETTER_TOKENS = 2350
"""Single bytes and merges inside words; what is left of the vocabulary goes to pieces with a blank in front."""
BARE_PATTERN = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+|\s+"
SAMPLE = 30_000
"""Conversations that the tokenizer is trained on."""


def _texts(content: Content) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content]


def sample_texts(count: int = SAMPLE) -> Iterable[str]:
    """The texts of generated conversations, then plain English for the words that they seldom use."""
    for seed in range(count):
        for message in conversation(seed)["messages"]:
            yield from _texts(message["content"])
    for _ in range(4):
        yield from (WORDS_FOLDER / "glosses.txt").read_text().splitlines()
        yield (WORDS_FOLDER / "words.txt").read_text()


def build() -> Tokenizer:
    """Train the tokenizer; the same on every machine."""
    texts = list(sample_texts())
    trained = rustbpe.Tokenizer()
    trained.train_from_iterator(iter(texts), LETTER_TOKENS, pattern=BARE_PATTERN)
    pieces = [bytes(piece) for piece, _ in sorted(trained.get_mergeable_ranks(), key=lambda pair: pair[1])]
    bare = Tokenizer.from_ranks({piece: rank for rank, piece in enumerate(pieces)}, BARE_PATTERN)
    ranks = {piece: rank for rank, piece in enumerate(pieces + _with_blank(bare, texts, VOCAB_SIZE - len(pieces) - 9))}
    assert len(ranks) + len(SPECIAL_TOKENS) == VOCAB_SIZE
    return Tokenizer.from_ranks(ranks, STARTER_PATTERN, name="nanochat-studio-starter")


def _with_blank(bare: Tokenizer, texts: list[str], count: int) -> list[bytes]:
    """The `count` commonest first pieces of words, each with a blank in front."""
    words = Counter(word for text in texts for word in re.findall(r" ([^\W\d_]+|[^\w\s]+)", text))
    firsts: Counter[bytes] = Counter()
    for word, occurrences in words.items():
        firsts[bare.decode_bytes(bare.encode(word)[:1])] += occurrences
    known = {bare.decode_bytes([token]) for token in range(bare.vocab_size)}
    chosen = sorted(firsts.items(), key=lambda item: (-item[1], item[0]))
    return [b" " + piece for piece, _ in chosen if b" " + piece not in known][:count]


def main(path: Path = Path(__file__).parent / "tokenizer.pkl") -> None:
    tokenizer = build()
    tokenizer.save(path)
    print(f"{path}: {tokenizer.vocab_size} tokens")


if __name__ == "__main__":
    main()
