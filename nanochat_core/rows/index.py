"""An index of the words that a run's model was taught: where any stretch of words stands, found in a millisecond.

A suffix array over the words of all answers, sorted by the first DEPTH words of each suffix, in files that are mapped
and not read. Words and not a tokenizer's ids: a span begins and ends where a person sees a word begin and end.
Source: Liu et al., "OLMoTrace: Tracing Language Model Outputs Back to Trillions of Training Tokens", arXiv 2504.07096.
"""

import io
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import regex

from nanochat_core.rows.row import Row
from nanochat_core.system.files import read_json, write_atomically, write_json
from nanochat_core.system.words import WITHOUT_BLANKS

DEPTH = 32
"""Words by which suffixes are ordered; a longer span is followed row by row."""
_VERSION = 2
_END = 0
"""Stands between two answers: no span crosses it."""
_UNKNOWN = 0xFFFFFFFF
_BYTES = 4
# A sign of a script without blanks is a word of its own. Not of `re`, which cuts Hindi at each of its vowel signs.
_LETTERS = rf"[[\w\p{{No}}]--[{WITHOUT_BLANKS}]]+"
_WORD = regex.compile(rf"[{WITHOUT_BLANKS}]|{_LETTERS}(?:['’]{_LETTERS})*|[^\w\s]", regex.V1)


@dataclass(frozen=True)
class Word:
    """A word of a text, and where it stands there."""

    text: str
    start: int
    end: int

    @property
    def is_sign(self) -> bool:
        """Whether it is punctuation, which no span begins or ends with."""
        return not (self.text[0].isalnum() or self.text[0] == "_")


def split_words(text: str) -> list[Word]:
    """The words and signs of a text."""
    return [Word(found[0], found.start(), found.end()) for found in _WORD.finditer(text)]


class Index:
    """An index on the disk, opened."""

    def __init__(self, folder: Path):
        """`folder` holds what `build` wrote."""
        self._words = {
            word: number for number, word in enumerate((folder / "words.txt").read_text("utf-8").split("\n"), 1)
        }
        self._text, self._order, self.starts, self.lines, self._asked, self._asked_starts, self.rows_with = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS
        )
        self._plain = np.asarray(self._text)
        self._bytes = memoryview(self._text).cast("B") if len(self._text) else memoryview(b"")

    @property
    def rows(self) -> int:
        """How many rows it knows."""
        return len(self.lines)

    def numbers(self, words: Iterable[str]) -> list[int]:
        """The number of each word; of one that stands nowhere, one that is never found."""
        return [self._words.get(word, _UNKNOWN) for word in words]

    def longest(self, wanted: Sequence[int]) -> tuple[int, int, int]:
        """(words of `wanted`, from its first on, that stand somewhere; first and last + 1 of their places in order)."""
        key = np.array(wanted[:DEPTH], ">u4").tobytes()
        place = self._search(key, after=False)
        size = max((self._shared(at, key) for at in (place - 1, place) if 0 <= at < len(self._order)), default=0)
        if not size:
            return 0, 0, 0
        key = key[: size * _BYTES]
        return size, self._search(key, after=False), self._search(key, after=True)

    def rows_at(self, first: int, last: int) -> np.ndarray:
        """int64: the rows, ascending, that hold what stands at these places of the order."""
        return self.rows_of(self._order[first:last])

    def rows_of(self, places: np.ndarray) -> np.ndarray:
        """int64: the rows, ascending, that hold these places of the text."""
        return np.unique(np.searchsorted(self.starts, places, side="right") - 1)

    def places(self, first: int, last: int) -> np.ndarray:
        """int32: where in the text stands what is at these places of the order."""
        return np.asarray(self._order[first:last])

    def from_place(self, at: int, most: int) -> np.ndarray:
        """(up to most,): the numbers of the words that stand in the text from there on."""
        return self._plain[at : at + most]

    def asked(self, row: int) -> list[int]:
        """The words of a row's questions, by number."""
        start, end = self._asked_starts[row : row + 2].tolist()
        return self._asked[start:end].tolist()

    def _search(self, key: bytes, *, after: bool) -> int:
        """The first place of the order whose suffix is not below `key`, or (`after`) does not begin with it or less."""
        low, high, size = 0, len(self._order), len(key)
        text, order = self._bytes, self._order
        while low < high:
            middle = (low + high) // 2
            at = int(order[middle]) * _BYTES
            found = bytes(text[at : at + size])
            if found < key or (after and found == key):
                low = middle + 1
            else:
                high = middle
        return low

    def _shared(self, place: int, key: bytes) -> int:
        return self._common(int(self._order[place]) * _BYTES, key)

    def _common(self, at: int, key: bytes) -> int:
        """How many whole words the text at byte `at` and `key` have in common at their beginning."""
        found = self._bytes[at : at + len(key)]
        size = min(len(found), len(key)) // _BYTES
        for number in range(size):
            if found[number * _BYTES : (number + 1) * _BYTES] != key[number * _BYTES : (number + 1) * _BYTES]:
                return number
        return size


_ARRAYS = ("text", "order", "starts", "lines", "asked", "asked_starts", "rows_with")


def opened(folder: Path, key: str, rows: Callable[[], Iterable[Row]], report: Callable[[str], Any]) -> Index:
    """The index in `folder`, made now where there is none for `key`. report: called with what is being done."""
    if not _is_whole(folder, key):
        folder.mkdir(exist_ok=True)
        with filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
            if not _is_whole(folder, key):
                report("Indexing the words of the data: once for this run")
                build(folder, key, rows())
    return Index(folder)


def _is_whole(folder: Path, key: str) -> bool:
    facts = read_json(folder / "facts.json")
    return facts.get("key") == key and facts.get("version") == _VERSION


def build(folder: Path, key: str, rows: Iterable[Row]) -> None:
    """Write the index of these rows; facts.json, which names `key`, comes last."""
    (folder / "facts.json").unlink(missing_ok=True)
    numbers: dict[str, int] = {}
    text, asked, starts, asked_starts, lines = array("I"), array("I"), array("I"), array("I", [0]), array("I")
    for row in rows:
        lines.append(row.line)
        starts.append(len(text))
        for turn in row.turns:
            text.extend(_numbered(turn.answer, numbers))
            text.append(_END)
        asked.extend(_numbered(row.prompt, numbers))
        asked_starts.append(len(asked))
    words = np.frombuffer(text, np.uint32) if text else np.empty(0, np.uint32)
    begins = np.frombuffer(starts, np.uint32) if starts else np.empty(0, np.uint32)
    arrays: tuple[np.ndarray, ...] = (
        words.astype(">u4"),
        _suffixes(words, len(numbers)),
        begins.astype(np.int64),
        np.array(lines, np.int64),
        np.array(asked, np.uint32),
        np.array(asked_starts, np.int64),
        _rows_with(words, begins, len(numbers)),
    )
    for name, values in zip(_ARRAYS, arrays, strict=True):
        file = io.BytesIO()
        np.save(file, values)
        write_atomically(folder / f"{name}.npy", file.getvalue())
    write_atomically(folder / "words.txt", "\n".join(numbers).encode("utf-8", "replace"))
    write_json(folder / "facts.json", {"version": _VERSION, "key": key, "rows": len(lines), "words": len(words)})


def _numbered(text: str, numbers: dict[str, int]) -> Iterator[int]:
    """The number of each word, from 1; new words get the next."""
    return (numbers.setdefault(word, len(numbers) + 1) for word in _WORD.findall(text))


def _suffixes(words: np.ndarray, count: int) -> np.ndarray:
    """int32: the places that begin with a word, in the order of the DEPTH words from there (prefix doubling).

    Source: Manber and Myers, "Suffix arrays: a new method for on-line string searches", 1993.
    """
    ranks, size = words.astype(np.int64), 1
    order = np.argsort(ranks, kind="stable")
    while size < DEPTH:
        following = np.zeros_like(ranks)
        following[:-size] = ranks[size:]
        pairs = ranks * (int(ranks.max(initial=0)) + 1) + following
        order = np.argsort(pairs, kind="stable")
        in_order = pairs[order]
        ranks[order] = np.cumsum(np.concatenate([[0], in_order[1:] != in_order[:-1]])) if len(order) else order
        size *= 2
    return order[words[order] != _END].astype(np.int32)


def _rows_with(words: np.ndarray, begins: np.ndarray, count: int) -> np.ndarray:
    """int64 (count + 1,): in how many rows each word stands."""
    row = np.searchsorted(begins, np.arange(len(words)), side="right").astype(np.int64)
    pairs = np.unique(row * (count + 1) + words)
    return np.bincount(pairs % (count + 1), minlength=count + 1)
