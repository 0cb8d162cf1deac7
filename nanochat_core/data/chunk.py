"""From the lines of a part of a data file to what is wrong with them, and to token ids where those are wanted.

A `Block` can cross to another process; joined in their order, blocks tell what a single pass over the file would.
"""

import io
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanochat_core.data.length import LengthCheck, refused
from nanochat_core.data.line import Messages, judge_line
from nanochat_core.data.reader import BLOCK_BYTES, BOM, MAX_PIECE_BYTES, LineBlock, Piece
from nanochat_core.data.repair.line import with_promises
from nanochat_core.data.report import Fault
from nanochat_core.system.words import plural
from nanochat_core.tokenizer.rendering import LONGEST_IN_A_BATCH, Rendering
from nanochat_core.tokenizer.tokenizer import Tokenizer

SAMPLE = 50
"""Conversations of a block whose ends are compared."""
AT_ONCE = 200
"""Conversations that are tokenized together: what was parsed still lies in the processor's cache."""
FACTS = np.dtype([("line", "<u8"), ("tokens", "<u4"), ("supervised", "<u4"), ("cut", "?")])
"""What is known of one conversation: its line's first byte in the file; ids kept, those of them that count in the loss;
whether more did not fit."""
UNTRAINED = np.dtype([("conversation", "<u8"), ("start", "<u4"), ("end", "<u4")])
"""A stretch of a conversation's ids that its file marks as not to be trained: the ids alone do not tell."""


class LineMarks:
    """Takes line ends and byte order marks off the lines, skips empty lines, and remembers how many there were."""

    def __init__(self) -> None:
        self.lines = 0
        self._first: dict[str, int] = {}
        self._count = {"bom": 0, "crlf": 0, "empty": 0, "empty at the end": 0}

    def strip(self, line: int, data: bytes) -> bytes:
        """The line without its end; b"" for an empty one."""
        self.lines += 1
        if data.endswith(b"\r\n"):
            self._note("crlf", line)
        if data.startswith(BOM):
            data = data.removeprefix(BOM)
            self._note("bom", line)
        data = data.rstrip(b" \t\r\n")
        if not data:
            self._note("empty at the end", line)
        elif self._count["empty at the end"]:
            self._count["empty"] += self._count["empty at the end"]
            self._count["empty at the end"] = 0
        return data

    def add(self, later: "LineMarks") -> None:
        """Join what was seen in the lines that follow."""
        count, more = self._count, later._count
        self.lines += later.lines
        for name, line in later._first.items():
            self._first.setdefault(name, line)
        count["bom"] += more["bom"]
        count["crlf"] += more["crlf"]
        if later.lines > more["empty"] + more["empty at the end"]:
            count["empty"] += count["empty at the end"] + more["empty"]
            count["empty at the end"] = 0
        count["empty at the end"] += more["empty at the end"]

    def _note(self, name: str, line: int) -> None:
        self._first.setdefault(name, line)
        self._count[name] += 1

    def warnings(self) -> Iterator[tuple[int, Fault]]:
        """(first line, warning) of each kind that was seen; empty lines at the end of the file need no word."""
        count = self._count
        if count["bom"]:
            message = "The file begins with a byte order mark (BOM); it is skipped."
            if self._first["bom"] > 1 or count["bom"] > 1:
                message = (
                    f"{plural(count['bom'], 'line')} with a byte order mark (BOM) at the beginning; it is skipped."
                )
            yield (
                self._first["bom"],
                Fault("warning", "bom", message, "Save the file as UTF-8 without BOM.", can_fix=True),
            )
        if count["crlf"]:
            message = (
                f"{count['crlf']:,} of {plural(self.lines, 'line')} end with CR LF, as on Windows; that is harmless."
            )
            yield (
                self._first["crlf"],
                Fault("warning", "crlf", message, "Save the file with LF line ends.", can_fix=True),
            )
        if count["empty"]:
            message = f"{plural(count['empty'], 'line')} before the last conversation: empty, and skipped."
            first = self._first["empty at the end"]
            yield first, Fault("warning", "empty_line", message, "Remove them if nothing is missing there.")


@dataclass
class Block:
    """What was found in some lines."""

    marks: LineMarks = field(default_factory=LineMarks)
    problems: list[tuple[int, Fault]] = field(default_factory=list)
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    """The line of each faultless conversation, in the order of the file,"""
    hashes: "array[int]" = field(default_factory=lambda: array("q"))
    """and a number that equal conversations share."""
    notes: list[str] = field(default_factory=list)
    marked: int = 0
    """Answers that are marked as not to be trained."""
    sample: list[Messages] = field(default_factory=list)
    """The first few conversations, to see whether their texts begin and end alike."""
    kept: list[Messages] = field(default_factory=list)
    """The faultless conversations, where they are to be kept."""
    ids: np.ndarray | None = None
    """The conversations' ids one after the other, where they are wanted;"""
    facts: np.ndarray | None = None
    """FACTS of each;"""
    untrained: np.ndarray | None = None
    """UNTRAINED stretches, counted within the block."""


@dataclass(frozen=True)
class Wanted:
    """What a pass over a file is for."""

    tokenizer: Tokenizer | None
    max_seq_len: int
    tokens: bool = False
    """Give every conversation's ids; else only those are tokenized that may be too long."""
    keep: bool = False
    """Keep the conversations themselves."""


class BlockReader:
    """Reads blocks, one at a time."""

    def __init__(self, wanted: Wanted):
        self.wanted = wanted
        self._lengths = LengthCheck(wanted.tokenizer, wanted.max_seq_len)
        self._rendering = Rendering(wanted.tokenizer) if wanted.tokenizer is not None else None
        self._begin()

    def _begin(self) -> None:
        self._block = Block(notes=self._lengths.notes)
        self._waiting: list[tuple[int, int, Messages, int]] = []
        """Line, its first byte in the file, messages, bytes of their JSON: tokenizing many at once is faster."""
        self._ids: list[np.ndarray] = []
        self._starts: list[int] = []
        self._untrained: list[tuple[int, int, int]] = []

    def read_lines(self, lines: LineBlock) -> Block:
        """What whole lines of a file hold."""
        if lines.data is None:
            self._block.problems.append((lines.line, _too_large(is_spread=False)))
            return self._end()
        at = lines.at
        for line, raw in enumerate(io.BytesIO(lines.data), lines.line):
            self._take(line, 0, raw, at)
            at += len(raw)
            if len(self._waiting) >= AT_ONCE:
                self._tokenize()
        return self._end()

    def read_pieces(self, pieces: Iterable[Piece], is_spread: bool) -> Iterator[Block]:
        """Blocks of pieces, which need not be lines. They have no place in the file that could be looked up."""
        size = 0
        for piece in pieces:
            if piece.data is None:
                self._block.problems.append((piece.line, _too_large(is_spread)))
                continue
            self._take(piece.line, piece.column, piece.data, 0, piece.record)
            size += len(piece.data)
            if size > BLOCK_BYTES:
                yield self._end()
                size = 0
        yield self._end()

    def _take(self, line: int, column: int, raw: bytes, at: int, record: int = 0) -> None:
        """record: the number of an object of an array whose objects share lines; 0 where the line says enough."""
        data = self._block.marks.strip(line, raw)
        if not data:
            return
        judged, faults, offset = judge_line(data, column)
        for fault in with_promises(data, faults) if faults else ():
            if record and not fault.once:
                fault = fault._replace(message=f"Record {record:,} of the array: {fault.message}")
            self._block.problems.append((line + offset, fault))
        for messages in judged:
            self._waiting.append((line, at, messages, len(data)))

    def _tokenize(self) -> None:
        """Tokenize what waits, all at once, and note what is found."""
        block, wanted, waiting, self._waiting = self._block, self.wanted, self._waiting, []
        for (line, at, messages, size), ids in zip(waiting, self._ids_of(waiting)):
            fault = self._fault(messages, size, ids)
            if fault is not None:
                block.problems.append((line, fault))
                if fault.level == "error":
                    continue
            block.lines.append(line)
            block.hashes.append(_hash_of(messages))
            if max(map(len, messages)) > 2:
                block.marked += sum("train" in message for message in messages)
            if len(block.sample) < SAMPLE:
                block.sample.append(messages)
            if wanted.keep:
                block.kept.append(messages)
            if wanted.tokens:
                assert isinstance(ids, np.ndarray), "what has no ids has a fault, which is an error"
                stretches = self._tokens.untrained(ids[: wanted.max_seq_len], messages)
                self._untrained += [(len(self._ids), start, end) for start, end in stretches]
                self._starts.append(at)
                self._ids.append(ids)

    def _ids_of(self, waiting: list[tuple[int, int, Messages, int]]) -> Sequence[np.ndarray | ValueError | None]:
        """The ids of each conversation, None where they are not needed. For counting, a very long one goes alone."""
        if self.wanted.tokens:
            return self._tokens.ids([messages for _, _, messages, _ in waiting])
        limit = self.wanted.max_seq_len
        found: list[np.ndarray | ValueError | None] = [None] * len(waiting)
        long = [number for number, (*_, size) in enumerate(waiting) if limit < size <= LONGEST_IN_A_BATCH]
        if long and self._has_tokenizer():
            for number, ids in zip(long, self._tokens.ids([waiting[number][2] for number in long])):
                found[number] = ids
        return found

    @property
    def _tokens(self) -> Rendering:
        assert self._rendering is not None, "only where tokens are wanted, or a tokenizer was found"
        return self._rendering

    def _has_tokenizer(self) -> bool:
        if self._rendering is None and self._lengths.tokenizer is not None:
            self._rendering = Rendering(self._lengths.tokenizer)
        return self._rendering is not None

    def _fault(self, messages: Messages, size: int, ids: np.ndarray | ValueError | None) -> Fault | None:
        limit = self.wanted.max_seq_len
        if ids is None or size > LONGEST_IN_A_BATCH:
            fault = self._lengths.fault(messages, size)
            return refused(ids) if fault is None and isinstance(ids, ValueError) else fault
        if isinstance(ids, ValueError):
            return refused(ids)
        if len(ids) <= limit:
            return None
        return self._lengths.too_long(messages, ids, bool(self._tokens.trained(ids[:limit], messages).any()))

    def _end(self) -> Block:
        self._tokenize()
        block = self._block
        if self.wanted.tokens:
            block.ids, block.facts = self._joined()
            block.untrained = self._without_marked(block.ids, block.facts)
        self._begin()
        return block

    def _joined(self) -> tuple[np.ndarray, np.ndarray]:
        """All ids of the block one after the other, each conversation's as far as they fit, and its facts."""
        facts, limit = np.zeros(len(self._ids), FACTS), self.wanted.max_seq_len
        if not self._ids:
            return np.empty(0, self._tokens.dtype), facts
        sizes = np.array([len(ids) for ids in self._ids])
        facts["line"], facts["cut"], facts["tokens"] = self._starts, sizes > limit, np.minimum(sizes, limit)
        ids = np.concatenate([ids[:limit] for ids in self._ids] if facts["cut"].any() else self._ids)
        facts["supervised"] = self._tokens.supervised(ids, facts["tokens"])
        return ids, facts

    def _without_marked(self, ids: np.ndarray, facts: np.ndarray) -> np.ndarray:
        """The UNTRAINED stretches, whose tokens are taken off the facts."""
        found = np.array(self._untrained, UNTRAINED)
        first = np.cumsum(facts["tokens"], dtype=np.int64) - facts["tokens"]
        for number, start, end in self._untrained:
            mask = self._tokens.mask(ids[first[number] : first[number] + facts["tokens"][number]])
            facts["supervised"][number] -= mask[start:end].sum()
        return found


def _too_large(is_spread: bool) -> Fault:
    """A line, or (`is_spread`) an object over several lines, of more than MAX_PIECE_BYTES."""
    what = "conversation" if is_spread else "line"
    rest = " The rest of the file was not read." if is_spread else ""
    message = f"This {what} is longer than {MAX_PIECE_BYTES >> 20} MiB.{rest}"
    return Fault("error", "too_large", message, "Split it: a model reads a few thousand words at a time.")


def _hash_of(messages: Messages) -> int:
    """Equal for equal conversations. Who speaks is known from the first message."""
    try:
        return hash((messages[0]["role"], *[message["content"] for message in messages]))
    except TypeError:  # a content of several parts
        return hash((messages[0]["role"], *[_hashable(message["content"]) for message in messages]))


def _hashable(content: Any) -> Any:
    return content if isinstance(content, str) else tuple([(part["type"], part["text"]) for part in content])
