"""Token ids of long texts by compiled code, several times as fast as tiktoken and always the same ids.

It knows how the splitting patterns of PATTERNS cut text. What is a letter, a number or white space it asks tiktoken's
own regular expressions, so that both follow one version of Unicode.
"""

import ctypes
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import tiktoken

from nanochat_core.native.build import library

WORTH = 100_000
"""Characters after which more may be expected, so that asking tiktoken for the classes pays: 0.04 s, once."""

_LINE = 64
_LARGEST = 1 << 26
"""Bytes of one text; the ids take four times as many."""

_pointer, _count = ctypes.c_void_p, ctypes.c_int64


class _Pattern(NamedTuple):
    """What one splitting pattern does; `splitting` of c/pieces.h says it in full."""

    has_contractions: bool
    takes_any_before: bool
    digits: int
    takes_newlines: bool


NANOCHAT_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
STARTER_PATTERN = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = {
    NANOCHAT_PATTERN: _Pattern(digits=2, has_contractions=True, takes_any_before=True, takes_newlines=True),
    NANOCHAT_PATTERN.replace("{1,2}", "{1,3}"): _Pattern(
        digits=3, has_contractions=True, takes_any_before=True, takes_newlines=True
    ),
    STARTER_PATTERN: _Pattern(digits=1, has_contractions=False, takes_any_before=False, takes_newlines=False),
}
"""nanochat's, the same with up to three digits together as in other vocabularies, and the starter's."""


_VOCABULARY: list[tuple[str, type[ctypes.c_void_p] | type[ctypes.c_int64]]] = [
    *((name, _pointer) for name in ("bytes", "starts", "slots")),
    *((name, _count) for name in ("count", "mask", "longest")),
]
"""`vocabulary` of c/merges.h."""


class _Encoding(ctypes.Structure):
    """`encoding` of c/tokenize.c."""

    _fields_ = [
        ("classes", _pointer),
        *((name, _count) for name in _Pattern._fields),
        *((f"token_{name}", kind) for name, kind in _VOCABULARY),
        *((f"mark_{name}", kind) for name, kind in _VOCABULARY),
    ]


class CompiledEncoding:
    """For one vocabulary. Threads may use it at the same time; a copy makes its own tables."""

    def __init__(self, pattern: str, tokens: Sequence[bytes], marks: Sequence[bytes]):
        """tokens: in the order of their ids. marks: the special tokens, whose ids follow; each begins with <."""
        assert all(mark.startswith(b"<") for mark in marks)
        self._arguments = pattern, tokens, marks
        self._tables: _Tables | None = None
        self.knows_pattern = pattern in PATTERNS
        self._cannot = not self.knows_pattern
        self._met = 0  # characters
        self._own = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        """Tables are made again where a copy is used."""
        return CompiledEncoding, self._arguments

    def encode(self, text: str) -> np.ndarray | None:
        """uint32 ids of `text`, in which a mark is that special token. None where tiktoken has to do it.

        That is: for another pattern, without a compiler, and until there were WORTH characters.
        ValueError for half a surrogate pair.
        """
        tables = self._tables or self._made_for(text)
        if tables is None:
            return None
        data = text.encode("utf-8")
        if len(data) > _LARGEST:
            return None
        return tables.tokenize(self._known(), data)

    def _made_for(self, text: str) -> "_Tables | None":
        self._met += len(text)
        if self._cannot or self._met < WORTH:
            return None
        compiled = library("tokenize", encoding=_Encoding)
        tables = _Tables(compiled, *self._arguments) if compiled is not None else None
        if tables is None or not tables.are_good:
            self._cannot = True
            return None
        self._tables = tables
        return tables

    def _known(self) -> int:
        """Where this thread keeps the pieces that it has met."""
        if not hasattr(self._own, "known"):
            assert self._tables is not None
            self._own.known = np.zeros(self._tables.known_bytes + _LINE, np.uint8)
        return -(-self._own.known.ctypes.data // _LINE) * _LINE


class _Tables:
    """What the compiled code reads."""

    def __init__(self, compiled: ctypes.CDLL, pattern: str, tokens: Sequence[bytes], marks: Sequence[bytes]):
        self._tokenize = compiled.tokenize
        self._tokenize.restype = _count
        self._tokenize.argtypes = (_pointer, _pointer, ctypes.c_char_p, _count, _pointer)
        rooms = compiled.tokenize_known_bytes, compiled.tokenize_bytes_after, compiled.tokenize_ids_after
        for room in rooms:
            room.restype = _count
        self.known_bytes, bytes_after, self._ids_after = (room() for room in rooms)
        self._after_text = bytes(bytes_after)
        self._arrays = [_classes()]  # kept: the structure holds no more than where they lie
        self._encoding = _Encoding(
            self._arrays[0].ctypes.data, *PATTERNS[pattern], *self._listed(tokens), *self._listed(marks)
        )
        self.are_good = bool(compiled.tokenize_prepare(ctypes.byref(self._encoding)))

    def tokenize(self, known: int, text: bytes) -> np.ndarray:
        """The ids of `text`."""
        ids = np.empty(len(text) + self._ids_after, np.uint32)
        arguments = known, text + self._after_text, len(text), ids.ctypes.data
        count = self._tokenize(ctypes.addressof(self._encoding), *arguments)
        if count < 0:
            raise MemoryError
        return ids[:count]

    def _listed(self, tokens: Sequence[bytes]) -> tuple[int, ...]:
        """`vocabulary` of c/merges.h, its slots empty."""
        sizes = np.array([len(token) for token in tokens])
        starts = np.concatenate([np.zeros(1, np.uint32), np.cumsum(sizes, dtype=np.uint32)])
        slots = np.zeros(2 << len(tokens).bit_length(), np.uint32)
        arrays = [np.frombuffer(b"".join(tokens), np.uint8), starts, slots]
        self._arrays += arrays
        return *(array.ctypes.data for array in arrays), len(tokens), len(slots) - 1, int(sizes.max())


@cache
def _classes() -> np.ndarray:
    """uint8 of each code point: 1 for a letter, 2 for a number, 3 for white space, else 0 (c/pieces.h)."""
    codes = np.concatenate([np.arange(0xD800, dtype="<u4"), np.arange(0xE000, 0x110000, dtype="<u4")])
    characters, classes = codes.tobytes().decode("utf-32-le"), np.zeros(0x110000, np.uint8)
    single_bytes = {bytes([byte]): byte for byte in range(256)}
    for number, pattern in enumerate((r"\p{L}+", r"\p{N}+", r"\s+"), 1):
        found = tiktoken.Encoding("classes", pat_str=pattern, mergeable_ranks=single_bytes, special_tokens={})
        text = bytes(found.encode_ordinary(characters)).decode("utf-8")  # what does not match is left out
        classes[np.frombuffer(text.encode("utf-32-le"), "<u4")] = number
    return classes
