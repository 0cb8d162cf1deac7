"""From the bytes of a data file to its pieces of JSON, one at a time, whatever the size of the file.

A line ends at LF and nowhere else: U+2028 and its like may stand inside JSON text.
"""

import re
import stat
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from nanochat_core.data.file_kinds import HEAD_BYTES
from nanochat_core.data.report import Fault
from nanochat_core.paths import find_file

MAX_PIECE_BYTES = 32 << 20
"""The longest conversation that is read; its parsed form may take ten times as much memory."""

BOM = b"\xef\xbb\xbf"
_CHUNK_BYTES = 1 << 20

BLOCK_BYTES = 1 << 20
"""A file of lines is read in blocks of about this size: a few hundredths of a second's work."""


class Piece(NamedTuple):
    """A line of the file, or one object of a file whose objects are spread over lines or stand in an array."""

    line: int
    """Where it begins, from 1."""
    column: int
    """Bytes before it on that line."""
    data: bytes | None
    """None when it is longer than MAX_PIECE_BYTES: then it has not been read."""
    record: int = 0
    """Its number in an array whose objects share lines, from 1; 0 where the line tells enough."""
    fault: Fault | None = None
    """Why there is nothing to be read here, of a row of a table."""

    @property
    def place(self) -> int | str:
        """What it is called among the lines of a sentence."""
        return f"record {self.record:,}" if self.record else self.line


def open_data(path: str | Path) -> BinaryIO:
    """Open the data file that `paths.find_file` finds. ValueError: missing, a folder, not readable, not ordinary."""
    path = Path(path)
    try:
        path = find_file(path)
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ValueError(f"{path} is a folder. Name a file in it, such as {path / 'mydata.jsonl'}.")
        if not stat.S_ISREG(mode):  # a pipe would wait for ever, /dev/zero never ends
            raise ValueError(f"{path} is not an ordinary file. Save the data in a file first.")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise ValueError(f"There is no file {path}. Check the spelling and the folder.") from error
    except PermissionError as error:
        raise ValueError(f"{path} may not be read. Ask for permission to read it (chmod), or copy it.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}. Check the name and the disk.") from error


class Layout(NamedTuple):
    """How the pieces lie in the file: one a line, or (`is_spread`) over lines or in a JSON array."""

    is_spread: bool = False
    is_array: bool = False


# A bracket alone on the first line, or `{"messages": [`, and then no complete conversation on the next.
_SPREAD_START = re.compile(
    rb'\s*([{\[]|\{\s*"[^"\n]*"\s*:\s*(\[\s*\{?)?|\[\s*\{)[ \t\r]*\n'
    rb'(?!\s*\{\s*"(messages|conversations?|prompt|instruction)")'
)
_ARRAY_START = re.compile(rb"\s*\[\s*[{\[]")
_BARE_LIST = re.compile(rb'\s*\[\s*\{[^{}\[\]]*"(role|from|content)"\s*:')


def layout(head: bytes) -> Layout:
    """Tell from the beginning of a file whether it is JSON lines, one JSON array, or objects spread over lines.

    An array that begins with a message is one conversation; any other array of objects is a whole file in one.
    """
    head = head.removeprefix(BOM)
    if _ARRAY_START.match(head) and not _BARE_LIST.match(head):
        return Layout(is_spread=True, is_array=True)
    return Layout(is_spread=_SPREAD_START.match(head) is not None)


def pieces(file: BinaryIO, how: Layout) -> Iterator[Piece]:
    """The pieces of the file from its beginning. Nothing but blanks and separating commas is left out."""
    file.seek(0)
    if not how.is_spread:
        return _lines(file)
    if file.read(len(BOM)) != BOM:
        file.seek(0)
    found = _spread_pieces(file, how.is_array)
    return _numbered(found) if how.is_array else found


def _numbered(found: Iterator[Piece]) -> Iterator[Piece]:
    """The objects of an array, with their numbers when the first two begin on one line."""
    first = list(islice(found, 2))
    share = len(first) == 2 and first[0].line == first[1].line
    for number, piece in enumerate(chain(first, found), 1):
        yield piece._replace(record=number) if share else piece


def head_of(file: BinaryIO) -> bytes:
    """The first HEAD_BYTES bytes."""
    file.seek(0)
    return file.read(HEAD_BYTES)


class LineBlock(NamedTuple):
    """Some whole lines of a file."""

    line: int
    """Number of the first, from 1."""
    at: int
    """Its first byte in the file."""
    data: bytes | None
    """None for a single line that is longer than MAX_PIECE_BYTES: then it has not been read."""


def line_blocks(file: BinaryIO) -> Iterator[LineBlock]:
    """The lines of the file from its beginning, as `pieces` gives them, many at a time."""
    file.seek(0)
    line, at = 1, 0
    while data := file.read(BLOCK_BYTES):
        if not data.endswith(b"\n"):
            data += file.readline(MAX_PIECE_BYTES + 1)
        last = data.rfind(b"\n", 0, len(data) - 1) + 1
        is_too_long = len(data) - last > MAX_PIECE_BYTES
        whole = data[:last] if is_too_long else data
        if whole:
            yield LineBlock(line, at, whole)
        line += whole.count(b"\n")
        if is_too_long:
            yield LineBlock(line, at + last, None)
            line += 1
        at += len(data)
        while is_too_long and data and not data.endswith(b"\n"):
            data = file.readline(MAX_PIECE_BYTES)
            at += len(data)


def _lines(file: BinaryIO) -> Iterator[Piece]:
    number = 0
    while data := file.readline(MAX_PIECE_BYTES + 1):
        number += 1
        if len(data) <= MAX_PIECE_BYTES:
            yield Piece(number, 0, data)
            continue
        yield Piece(number, 0, None)
        while data and not data.endswith(b"\n"):
            data = file.readline(MAX_PIECE_BYTES)


# A whole text in quotes is one mark. Possessive (*+), or the engine would remember every escape for backtracking.
_MARKS = re.compile(rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|["\[\]{}\n]')
_QUOTE, _LF = b'"\n'
_OPENING, _ARRAY = b"{[", b"["[0]
_MAX_OPEN = 10_000
"""Brackets open at once, after which the rest of the file is not looked at: no parser would read it."""


def _spread_pieces(file: BinaryIO, is_array: bool) -> Iterator[Piece]:
    """Cut at the brackets of the outermost level, or of the level below it when `is_array`.

    What stands between the pieces, apart from blanks and commas, comes as a piece of its own, so that nothing is lost.
    """
    cutter = _Cutter(is_array)
    while chunk := file.read(_CHUNK_BYTES):
        yield from cutter.feed(chunk)
        if cutter.depth > _MAX_OPEN:
            yield from cutter.finish()
        if cutter.depth > _MAX_OPEN or cutter.size > MAX_PIECE_BYTES:
            yield Piece(*cutter.start, None)
            return
    yield from cutter.finish()


class _Cutter:
    """Follows brackets and quotes through the chunks of a file."""

    def __init__(self, is_array: bool):
        self.is_array = is_array
        self.base = 0
        """Depth at which pieces begin: 1 inside the array."""
        self.depth = 0
        self.line = 1
        self.start = (1, 0)
        """Line and column where the collected bytes begin."""
        self._collected: list[bytes] = []
        self._collected_size = 0
        self._rest = b""  # a text in quotes whose end is not there yet
        self._line_start = 0  # offset of the current line's first byte in the data; negative when it lies before

    @property
    def size(self) -> int:
        """Bytes of the piece that is not complete."""
        return self._collected_size + len(self._rest)

    def feed(self, chunk: bytes, is_last: bool = False) -> Iterator[Piece]:
        data, self._rest, begin = self._rest + chunk, b"", 0
        for match in _MARKS.finditer(data):
            at = match.start()
            mark = data[at]
            if mark == _QUOTE:
                # A quote alone opens a text that the data does not close. On a line that ends, it never is closed.
                if match.end() == at + 1 and not is_last and data.find(b"\n", at) < 0:
                    data, self._rest = data[:at], data[at:]
                    break
            elif mark == _LF:
                self.line, self._line_start = self.line + 1, at + 1
            elif mark in _OPENING:
                if self.depth == 0:
                    self.base = int(self.is_array and mark == _ARRAY)
                if self.depth <= self.base:
                    next_begin = at + (self.depth < self.base)  # the array's own bracket belongs to no piece
                    yield from self._cut(data[begin:at], next_begin)
                    begin = next_begin
                self.depth += 1
            elif self.depth:
                self.depth -= 1
                if self.depth <= self.base:
                    yield from self._cut(data[begin : at + (self.depth == self.base)], at + 1)
                    begin = at + 1
        self._collected.append(data[begin:])
        self._collected_size += len(data) - begin
        self._line_start -= len(data)

    def finish(self) -> Iterator[Piece]:
        yield from self.feed(b"", is_last=True)
        yield from self._cut(b"", 0)

    def _cut(self, last: bytes, next_start: int) -> Iterator[Piece]:
        """Yield what has been collected, unless it is only blanks and commas; start again at offset `next_start`."""
        data = b"".join([*self._collected, last])
        line, column = self.start
        self.start = (self.line, next_start - self._line_start)
        self._collected, self._collected_size = [], 0
        inside = data.lstrip(b" \t\r\n,")
        if inside:
            blank = data[: len(data) - len(inside)]
            line += blank.count(b"\n")
            column = len(blank) - blank.rfind(b"\n") - 1 if b"\n" in blank else column + len(blank)
            yield Piece(line, column, inside.rstrip(b" \t\r\n,"))
