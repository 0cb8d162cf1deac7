"""The compiled encoding against tiktoken: equal ids for every text, and tiktoken where it cannot be used."""

import copy
import hashlib
import pickle
import random
import re
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiktoken

from nanochat_core.native.build import library
from nanochat_core.tokenizer import compiled as compiled_encoding
from nanochat_core.tokenizer.compiled import NANOCHAT_PATTERN, PATTERNS, CompiledEncoding
from nanochat_core.tokenizer.pickle_file import SPECIAL_TOKENS
from nanochat_core.tokenizer.rendering import Rendering
from nanochat_core.tokenizer.tokenizer import Tokenizer
from tests.support.tiny import tiny_ranks, tiny_tokenizer

ROOT = Path(__file__).parents[3]
STARTER = Tokenizer.from_directory(ROOT / "starter")._encoding._pat_str
EVERY_CHARACTER = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
SPACES = [one for one in EVERY_CHARACTER if one.isspace() and one not in "\x1c\x1d\x1e\x1f"]
KINDS = [
    *("abcdefghijklmnopqrstuvwxyz", "ABCDEFSTDMLVRE", "sdmtlvreSDMTLVRE\u017f", "0123456789", "'", "'’`\"", " ", "\n"),
    *("\r\n", "\t \n", SPACES, ".,;:!?-+*/=()[]{}#@&%$^~", "_<>|", "éèüßñåøçšž", "абвгдежз", "日本語漢字かな", "हिन्दी"),
    *(
        "العربية",
        "\u0301\u0308\u20e3\u200d\ufe0f",
        "🙂👍👩\u200d🚀🏽",
        "²½Ⅷ٣৩",
        "\0\x01\x7f\x85\xa0\xad\ufeff\ufffd\uffff\U0010ffff",
    ),
    EVERY_CHARACTER,
]


def ranks_of(seed: int, count: int = 1500) -> dict[bytes, int]:
    """A vocabulary of bytes joined at random: merges that no training would find, in an order of their own."""
    chance = random.Random(seed)
    pieces = [bytes([byte]) for byte in range(256)]
    common = [*b"etaoinshrdlu '\n1 ", *"é日🙂\u3000".encode()]
    known = set(pieces)
    while len(pieces) < count:
        piece = chance.choice(pieces if len(pieces) > 300 else [bytes([byte]) for byte in common])
        piece += bytes([chance.choice(common)]) if chance.random() < 0.5 else chance.choice(pieces[256:] or [b"a"])
        if piece not in known and len(piece) < 60:
            known.add(piece)
            pieces.append(piece)
    chance.shuffle(pieces)
    return {piece: rank for rank, piece in enumerate(pieces)}


def all_pairs() -> dict[bytes, int]:
    """Every two bytes are a token, so that the ids tell where a piece ends; some more for long pieces of few ids."""
    pieces = [bytes([byte]) for byte in range(256)]
    pieces += [one + two for one in pieces for two in pieces] + [b"a" * 4, b"a" * 8]
    random.Random(0).shuffle(pieces)
    return {piece: rank for rank, piece in enumerate(pieces)}


@cache
def encodings(name: str, pattern: str) -> tuple[tiktoken.Encoding, CompiledEncoding]:
    """tiktoken's and ours."""
    if name == "starter":
        ranks = Tokenizer.from_directory(ROOT / "starter")._encoding._mergeable_ranks
    else:
        ranks = {"tiny": tiny_ranks, "pairs": all_pairs}.get(name, lambda: ranks_of(int(name)))()
    special = {mark: len(ranks) + number for number, mark in enumerate(SPECIAL_TOKENS)}
    theirs = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    ours = CompiledEncoding(pattern, sorted(ranks, key=ranks.get), [mark.encode() for mark in SPECIAL_TOKENS])
    assert ours.encode("a" * compiled_encoding.WORTH) is not None
    return theirs, ours


@pytest.fixture(params=sorted(PATTERNS), ids=lambda pattern: f"pattern{sorted(PATTERNS).index(pattern)}")
def pattern(request) -> str:
    return request.param


@pytest.fixture(params=["tiny", "starter", "pairs", "1"])
def both(request, pattern) -> tuple[tiktoken.Encoding, CompiledEncoding]:
    return encodings(request.param, pattern)


def assert_same(both: tuple[tiktoken.Encoding, CompiledEncoding], text: str) -> None:
    theirs, ours = both
    found, expected = ours.encode(text), theirs.encode_to_numpy(text, allowed_special="all")
    if not np.array_equal(found, expected):
        where = next((n for n, (one, two) in enumerate(zip(found, expected)) if one != two), 0)
        context = theirs.decode(expected[max(0, where - 5) : where + 5].tolist())
        raise AssertionError(f"differs at id {where}, around {context!r}")


def random_text(chance: random.Random) -> str:
    parts = []
    for _ in range(chance.randrange(1, 60)):
        kind = chance.choice(KINDS)
        size = chance.choice((1, 1, 1, 2, 3, 5, 8, 30))
        parts.append(chance.choice(kind) * size if chance.random() < 0.3 else "".join(chance.choices(kind, k=size)))
        if chance.random() < 0.05:
            parts.append(chance.choice((*SPECIAL_TOKENS, "<|", "<", "<|bos", "|>", "<|bos|", "<<|user_start|>")))
    return "".join(parts)


def test_both_patterns_in_use_are_known():
    assert {NANOCHAT_PATTERN, STARTER} <= set(PATTERNS)
    digest = hashlib.sha256(NANOCHAT_PATTERN.encode()).hexdigest()
    assert digest.startswith("4513fed735f5b87d"), "nanochat's own pattern is another"
    assert library("tokenize") is not None


@pytest.mark.parametrize("seed", range(4))
def test_random_texts(both, seed):
    chance = random.Random(seed)
    for _ in range(250):
        assert_same(both, random_text(chance))


@pytest.mark.parametrize("context", ["{0}1{0}", "'{0}!{0}a", " {0} {0}{0}  {0}a\n"])
@pytest.mark.parametrize("pattern", [NANOCHAT_PATTERN, STARTER], ids=["nanochat", "starter"])
def test_every_character(pattern, context):
    for start in range(0, len(EVERY_CHARACTER), 1 << 16):
        characters = EVERY_CHARACTER[start : start + (1 << 16)]
        if not any(one.isalnum() for one in characters):  # the planes without letters
            characters = characters[:: 1 << 8]
        assert_same(encodings("pairs", pattern), "".join([context.replace("{0}", one) for one in characters]))


def test_the_classes_are_those_of_the_regular_expressions():
    for pattern in (r"\p{L}", r"\p{N}", r"\s"):
        one_a_piece = tiktoken.Encoding("", pat_str=pattern, mergeable_ranks=tiny_ranks(), special_tokens={})
        found = one_a_piece.decode(one_a_piece.encode_ordinary("".join(EVERY_CHARACTER)))
        number = compiled_encoding._classes()[ord(found[0])]
        assert list(map(ord, found)) == np.flatnonzero(compiled_encoding._classes() == number).tolist()


@pytest.mark.parametrize(
    "characters", ["' sSlLdD\u017f", "'vVeErRx", "'mMtTdDx", " \n\ra", " \t\u3000\n!", "1 a!²", "<|>bos"]
)
def test_every_short_text_of_some_characters(pattern, characters):
    texts = [""]
    for _ in range(4):
        texts += [text + one for text in texts[-(len(characters) ** 4) :] for one in characters]
    both = encodings("pairs", pattern)
    for text in dict.fromkeys(texts):
        assert_same(both, text)
        assert_same(both, "<|bos|>".join((text, text, "x")))


def test_the_project_s_own_texts(both):
    for name in ("README.md", "data/README.md", "data/example_data.jsonl"):
        assert_same(both, (ROOT / name).read_text("utf-8"))


@pytest.mark.parametrize("size", [*range(22, 28), *range(126, 131), 1000, 30_000])
def test_long_pieces(both, size):
    chance = random.Random(size)
    for kind in ("etaoinshr", "é日", " ", "!'", "\n"):
        assert_same(both, "".join(chance.choices(kind, k=size)) + "<|bos|>1")


def test_pieces_that_differ_in_one_byte(both):
    for size in range(1, 28):
        others = [place * "a" + other + (size - 1 - place) * "a" for place in range(size) for other in "ax"]
        assert_same(both, "1".join(["a" * size, *others, "a" * size]))


def test_a_piece_of_many_characters_takes_no_long_time(pattern):
    """Half a megabyte in one piece: steps that grow with its square would take hours."""
    assert_same(encodings("1", pattern), "".join(random.Random(0).choices("etaoinshrdlu", k=500_000)))


def test_special_tokens_and_what_only_looks_like_them(both):
    for text in ("", "<", "<|bos|>", "<|bos|><|bos|>", "a<|bos|> b", " <|user_end|>\n", "<|bos<|bos|>|>", "<|BOS|>"):
        assert_same(both, text)


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encodings("tiny", NANOCHAT_PATTERN)[1].encode("\ud800")


def test_threads_at_once_and_copies():
    theirs, ours = encodings("starter", STARTER)
    chance = random.Random(0)
    texts = ["".join(random_text(chance) for _ in range(100)) for _ in range(8)]
    expected = [theirs.encode_to_numpy(text, allowed_special="all").tolist() for text in texts]
    found = [[] for _ in texts]

    def encode(number):
        found[number] = [ours.encode(texts[number]).tolist() for _ in range(20)]

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == [right] * 20 for one, right in zip(found, expected))
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert other.encode(texts[0] * 500).tolist() == expected[0] * 500


def test_a_tokenizer_gives_the_same_ids_with_and_without(monkeypatch):
    conversation = [
        {"role": "user", "content": "It's 12 o'clock: éh?"},
        {"role": "assistant", "content": "Word\n\n 3!"},
    ]
    expected = tiny_tokenizer().render_conversation(conversation)[0]
    talks = [conversation] * (compiled_encoding.WORTH // 20)
    fast = Tokenizer.from_ranks(tiny_ranks(), NANOCHAT_PATTERN)
    assert all(ids.tolist() == expected for ids in Rendering(fast).ids(talks))
    assert fast._compiled.encode("short") is not None
    monkeypatch.setattr(compiled_encoding, "library", lambda name, **mirrored: None)
    slow = Tokenizer.from_ranks(tiny_ranks(), NANOCHAT_PATTERN)
    assert all(ids.tolist() == expected for ids in Rendering(slow).ids(talks))
    assert slow._compiled.encode("a" * compiled_encoding.WORTH) is None


def test_tiktoken_where_the_pattern_is_another_and_for_the_first_texts():
    text = "a b" * compiled_encoding.WORTH
    other = Tokenizer.from_ranks(tiny_ranks(), r"\p{L}+|[^\p{L}]+")
    assert other._compiled.encode(text) is None
    assert other.encode_marked(text).tolist() == other.encode(text)
    first = Tokenizer.from_ranks(tiny_ranks(), NANOCHAT_PATTERN)._compiled
    assert [first.encode("x" * (compiled_encoding.WORTH // 3)) is None for _ in range(5)] == [True] * 3 + [False] * 2


def test_the_compiled_code_has_the_room_that_it_asks_for(monkeypatch):
    """It reads and writes a little beyond the end of a text and of its ids."""
    source = (ROOT / "nanochat_core" / "native" / "c" / "tokenize.c").read_text("utf-8")
    ours, rooms = encodings("tiny", NANOCHAT_PATTERN)[1], []
    bytes_after, ids_after = (
        int(re.search(f"#define {name} (.*)", source)[1]) for name in ("KNOWN_BYTES", "KNOWN_IDS")
    )
    tables, empty = ours._tables, np.empty
    monkeypatch.setattr(np, "empty", lambda size, dtype: rooms.append(size) or empty(size, dtype))
    monkeypatch.setattr(tables, "_tokenize", lambda _, known, text, size, ids: rooms.append(len(text) - size) or 0)
    ours.encode("water")
    assert rooms == [len("water") + ids_after, bytes_after]


def test_a_vocabulary_made_to_collide_is_left_to_tiktoken(monkeypatch):
    """The compiled code counts the steps to a free place; here it says that they were too many."""
    compiled = library("tokenize", encoding=compiled_encoding._Encoding)
    monkeypatch.setattr(compiled, "tokenize_prepare", lambda encoding: 0)
    tokenizer = Tokenizer.from_ranks(tiny_ranks(), NANOCHAT_PATTERN)
    text = "water " * compiled_encoding.WORTH
    assert tokenizer._compiled.encode(text) is None
    assert tokenizer.encode_marked(text).tolist() == tokenizer.encode(text)
