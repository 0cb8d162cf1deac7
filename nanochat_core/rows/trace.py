"""Which rows taught this? The stretches of a reply that stand word for word in the rows that a run was trained on."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nanochat_core.rows.findings import excerpt, where
from nanochat_core.rows.following import Follower
from nanochat_core.rows.index import DEPTH, Index, Word, opened, split_words
from nanochat_core.rows.row import Row, rows_of_lines
from nanochat_core.rows.wording import FUNCTION_WORDS
from nanochat_core.runs import row_losses
from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import data_key, kept_lines
from nanochat_core.show.markup import card, escape, note, table

LEAST_WEIGHT = 1.0
"""What a span has to weigh: as much as one word that stands in a single row. A word in every row weighs nothing."""
LEAST_WORDS = 2
"""One word alone says little of where it comes from."""
MOST_LINES = 20
"""Rows that are named of a span, the likeliest first."""
SHOWN = 30
"""Stretches that a summary spells out, the longest first."""
_LOOKED_AT = 2000
"""Rows of a span that are compared with the question."""


@dataclass(frozen=True)
class Span:
    """A stretch of a reply."""

    text: str
    start: int
    end: int
    """Where it stands in the reply: reply[start:end] is its text."""
    lines: tuple[int, ...]
    """Lines of the data file that hold it, from 1; the likeliest first, MOST_LINES at most."""
    count: int
    """How many rows hold it."""
    words: int
    weight: float


@dataclass(frozen=True)
class Trace:
    """The spans of a reply, the longest first, and the rows that they point to."""

    reply: str
    spans: tuple[Span, ...]
    lines: tuple[int, ...]
    """Lines of the data file, those first that share most with the reply (and the question, where it is known)."""
    tag: str

    def to_dict(self) -> dict[str, Any]:
        """What `trace --json` prints."""
        return {"spans": [{"text": span.text, "lines": list(span.lines)} for span in self.spans]}

    def summary(self) -> str:
        """Text for a person."""
        if not self.spans:
            return f"Nothing of this stands word for word in the rows that '{self.tag}' was trained on."
        told = Counter(f"{excerpt(span.text)}: {_rows(span)}" for span in self.spans)
        lines = [f"{line} ({count:,} times)" if count > 1 else line for line, count in told.items()]
        more = len(lines) - SHOWN
        return "\n".join([*lines[:SHOWN], *([f"And {more:,} more stretches."] if more > 0 else [])])

    def _repr_html_(self) -> str:
        if not self.spans:
            return card("Which rows taught this?", note(self.summary()))
        rows = [(span.text, _rows(span)) for span in self.spans]
        return card("Which rows taught this?", f"<p>{self.underlined()}</p>", table(("Words", "Rows"), rows))

    def underlined(self) -> str:
        """The reply as HTML, with what stands in the rows underlined."""
        pieces = []
        for text, span in self.pieces():
            pieces.append(escape(text) if span is None else f'<u title="{_rows(self.spans[span])}">{escape(text)}</u>')
        return "".join(pieces)

    def pieces(self) -> Iterator[tuple[str, int | None]]:
        """The reply cut up: (text, number of its span or None for what stands nowhere). The longer span counts."""
        owner: list[int | None] = [None] * len(self.reply)
        for number, span in reversed(list(enumerate(self.spans))):
            owner[span.start : span.end] = [number] * (span.end - span.start)
        start = 0
        for place in range(1, len(owner) + 1):
            if place == len(owner) or owner[place] != owner[start]:
                yield self.reply[start:place], owner[start]
                start = place


def _rows(span: Span) -> str:
    more = f" and {span.count - len(span.lines):,} more rows" if span.count > len(span.lines) else ""
    return where(span.lines, MOST_LINES).lower() + more


def trace(tag: str, reply: str, question: str = "", report: Callable[[str], Any] = lambda text: None) -> Trace:
    """Where the words of a reply stand in what run `tag` was trained on.

    question: what the reply answers; of rows with the same answer, the one with the likest question comes first.
    report: called with a sentence when the index has to be made, once for a run. ValueError for a reply without words,
    when there is no such run, or its data is not there any more.
    """
    if not split_words(reply):
        raise ValueError("The reply is empty: give the text whose words are looked for in the rows.")
    return trace_in(index_of(tag, report), tag, reply, question)


def index_of(tag: str, report: Callable[[str], Any] = lambda text: None) -> Index:
    """The index of a run's data, in the run's folder."""
    run = Run.open(tag)
    if not run.rows_file.is_file() and not run.metrics_file.is_file():
        raise ValueError(f"Run '{tag}' has not trained on a row yet, so none has taught it anything.")
    key = _key(run)
    return _opened(run.trace_dir, key, lambda: trained_rows(run), report)


_open: dict[Path, tuple[str, Index]] = {}


def _opened(folder: Path, key: str, rows: Callable[[], Iterator[Row]], report: Callable[[str], Any]) -> Index:
    """The index, and no second time as long as it is the same."""
    if folder not in _open or _open[folder][0] != key or not (folder / "facts.json").is_file():
        _open[folder] = key, opened(folder, key, rows, report)
    return _open[folder][1]


def _key(run: Run) -> str:
    """What the index depends on: the data, and which of its rows have been trained."""
    losses = _losses(run.rows_file, run.rows_file.stat().st_size if run.rows_file.is_file() else 0)
    trained = "all" if losses is None else str(int((losses.visits > 0).sum()))
    return f"{data_key(run)} {trained}"


@lru_cache(4)
def _losses(path: Path, size: int) -> row_losses.RowLosses | None:
    """The record of so many bytes: it is read once and not for each reply."""
    return row_losses.read(path)


def trained_rows(run: Run) -> Iterator[Row]:
    """The rows that the run has trained on so far; all rows of a run that has no record of that."""
    losses = row_losses.read(run.rows_file)
    for number, (line, data) in enumerate(kept_lines(run)):
        if losses is None or (number < len(losses) and losses.visits[number]):
            yield from rows_of_lines([(line, data)])


def trace_in(index: Index, tag: str, reply: str, question: str = "") -> Trace:
    """As `trace`, in an index that is open."""
    words = split_words(reply)
    numbers = index.numbers(word.text for word in words)
    weights = _weights(index, numbers, words)
    matches = sorted(_matches(index, words, numbers, weights), key=lambda match: (-match.words, -match.weight))
    kept = _without_covered(matches, len(words))
    scores: dict[int, float] = defaultdict(float)
    for match in kept:
        for row in match.rows[:_LOOKED_AT].tolist():
            scores[row] += match.weight
    _favour(index, scores, question)
    spans = [_span(index, reply, words, match, scores) for match in kept]
    best = sorted(scores, key=lambda row: (-scores[row], row))[:MOST_LINES]
    return Trace(reply, tuple(spans), tuple(int(index.lines[row]) for row in best), tag)


@dataclass(frozen=True)
class _Match:
    first: int
    last: int
    """Words of the reply, the last one excluded."""
    words: int
    """Those of them that are no signs."""
    weight: float
    rows: np.ndarray


def _weights(index: Index, numbers: Sequence[int], words: Sequence[Word]) -> list[float]:
    """What each word weighs: 0 in every row, 1 in a single one; words without a meaning of their own, nothing."""
    scale = math.log(index.rows + 1)
    return [
        0.0
        if word.is_sign or word.text.casefold() in FUNCTION_WORDS or number >= len(index.rows_with)
        else max(0.0, 1 - math.log(max(1, int(index.rows_with[number]))) / scale)
        for number, word in zip(numbers, words)
    ]


def _matches(index: Index, words: Sequence[Word], numbers: Sequence[int], weights: Sequence[float]) -> Iterator[_Match]:
    """The stretches that stand somewhere and that no longer one holds."""
    reached, follower = 0, Follower(index, numbers)
    counted = [not word.is_sign for word in words]
    end = max((place + 1 for place, is_counted in enumerate(counted) if is_counted), default=0)
    for first in range(end):
        if reached == end:
            return
        if not counted[first]:
            continue
        size, low, high = index.longest(numbers[first : first + DEPTH])
        places = None
        if size == DEPTH and len(numbers) > first + DEPTH:
            size, places = follower.extended(first, low, high)
        last = first + size
        while last > first and not counted[last - 1]:
            last -= 1
        if last <= reached:
            continue
        reached = last
        count, weight = sum(counted[first:last]), sum(weights[first:last])
        if count >= LEAST_WORDS and weight >= LEAST_WEIGHT:
            rows = index.rows_at(low, high) if places is None else index.rows_of(places)
            yield _Match(first, last, count, weight, rows)


def _without_covered(matches: Sequence[_Match], count: int) -> list[_Match]:
    """Of the matches, the longest first, those of which at least half stands in no longer one."""
    covered = np.zeros(count, bool)
    kept = []
    for match in matches:
        if 2 * int(covered[match.first : match.last].sum()) <= match.last - match.first:
            kept.append(match)
            covered[match.first : match.last] = True
    return kept


def _favour(index: Index, scores: dict[int, float], question: str) -> None:
    """Of rows that share the same with the reply, put those first whose question is like the one that was asked."""
    asked = set(index.numbers(word.text for word in split_words(question)))
    if not asked:
        return
    for row in scores:
        own = set(index.asked(row))
        scores[row] += 0.999 * len(asked & own) / len(asked | own)


def _span(index: Index, reply: str, words: Sequence[Word], match: _Match, scores: dict[int, float]) -> Span:
    start, end = words[match.first].start, words[match.last - 1].end
    rows = sorted(match.rows[:_LOOKED_AT].tolist(), key=lambda row: (-scores[row], row))[:MOST_LINES]
    lines = tuple(int(index.lines[row]) for row in rows)
    return Span(reply[start:end], start, end, lines, len(match.rows), match.words, round(match.weight, 3))
