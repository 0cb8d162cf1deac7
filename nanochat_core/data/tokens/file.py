"""A data file's conversations as token ids in one file: written once, then read a conversation at a time.

Layout: a header of 512 bytes (eight of magic, then JSON), the ids of all conversations one after the other, FACTS of
each, and the UNTRAINED stretches. The header holds sizes and a CRC-32 of all that follows, so that damage is noticed.
"""

import contextlib
import io
import json
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from nanochat_core.data.chunk import FACTS, UNTRAINED, Block

_MAGIC = b"nctoken3"
"""The last character is the format's version."""
_HEADER_BYTES = 512
_CHUNK_BYTES = 1 << 20
_MOST_WARNINGS = 8  # as many as the header has room for


class _Header(NamedTuple):
    dtype: str
    """uint16 or int32."""
    tokens: int
    conversations: int
    untrained: int
    crc: int
    source: str
    warnings: dict[str, int]
    """How many warnings of each kind the check of the data had."""


class TokenWriter:
    """Writes a token file block by block."""

    def __init__(self, file: BinaryIO, dtype: np.dtype):
        self._file, self._dtype = file, dtype
        self._facts: list[np.ndarray] = []
        self._untrained: list[np.ndarray] = []
        self._count = 0
        self._crc = 0
        file.write(bytes(_HEADER_BYTES))

    def add(self, block: Block) -> None:
        """Append the block's conversations."""
        assert block.ids is not None
        self._write(block.ids.astype(self._dtype.newbyteorder("<"), copy=False))
        assert block.facts is not None
        assert block.untrained is not None
        self._facts.append(block.facts)
        block.untrained["conversation"] += self._count
        self._untrained.append(block.untrained)
        self._count += len(block.facts)

    def finish(self, source: str, warnings: Mapping[str, int]) -> None:
        """Write the rest and the header. source: SHA-256 of the data file; warnings: how many of each kind."""
        for facts in (*self._facts, *self._untrained):
            self._write(facts)
        tokens = sum(int(facts["tokens"].sum(dtype=np.int64)) for facts in self._facts)
        untrained = sum(map(len, self._untrained))
        kept = dict(list(warnings.items())[:_MOST_WARNINGS])
        header = _Header(self._dtype.name, tokens, self._count, untrained, self._crc, source, kept)
        self._file.seek(0)
        self._file.write((_MAGIC + json.dumps(header).encode()).ljust(_HEADER_BYTES))

    def _write(self, values: np.ndarray) -> None:
        data = values.tobytes()
        self._crc = zlib.crc32(data, self._crc)
        self._file.write(data)


class TokenFile:
    """The conversations of a token file. Ids are read when they are asked for; The tables are in memory.

    Read and not mapped: what was read once does not count as this process's memory, and a file that a failing disk cuts
    short is an error that can be said, where a mapping would end the process.
    """

    def __init__(self, file: BinaryIO):
        """ValueError when `file` is not a whole, undamaged token file."""
        self._file, self._lock = file, threading.Lock()
        header = _header(file.read(_HEADER_BYTES))
        self.source = header.source
        """SHA-256 of the data file."""
        self.warnings = header.warnings
        """How many warnings of each kind the check of the data had."""
        self._dtype = np.dtype(header.dtype).newbyteorder("<")
        facts_bytes = header.conversations * FACTS.itemsize
        tables_bytes = facts_bytes + header.untrained * UNTRAINED.itemsize
        tables = self._checked(header.tokens * self._dtype.itemsize, tables_bytes, header.crc)
        self.facts = np.frombuffer(tables[:facts_bytes], FACTS)
        """FACTS of each conversation, (N,)."""
        self.untrained = np.frombuffer(tables[facts_bytes:], UNTRAINED)
        """Stretches that are not to be trained, in the order of the conversations."""
        ends = np.cumsum(self.facts["tokens"], dtype=np.int64)
        self._starts = np.concatenate([np.zeros(1, np.int64), ends])

    @classmethod
    def open(cls, path: Path) -> "TokenFile":
        """The token file at `path`. OSError, or ValueError when it is damaged or something else."""
        with contextlib.ExitStack() as stack:
            found = cls(stack.enter_context(io.FileIO(path)))
            stack.pop_all()  # it stays open as long as it is used
        return found

    def __len__(self) -> int:
        return len(self.facts)

    def close(self) -> None:
        """Let go of the file; no ids can be read any more."""
        self._file.close()

    def ids(self, number: int) -> np.ndarray:
        """int32 ids of conversation `number`. ValueError when the file cannot be read any more."""
        start, end = self._starts[number : number + 2].tolist()
        size = (end - start) * self._dtype.itemsize
        with self._lock:
            self._file.seek(_HEADER_BYTES + start * self._dtype.itemsize)
            data = self._file.read(size)
        if len(data) != size:
            raise ValueError("The cache of the tokenized data was damaged while it was in use. Start again.")
        return np.frombuffer(data, self._dtype).astype(np.int32)

    def untrained_of(self, number: int) -> list[tuple[int, int]]:
        """[start, end) of what is not to be trained in conversation `number`."""
        if not len(self.untrained):
            return []
        first, last = np.searchsorted(self.untrained["conversation"], [number, number + 1])
        return [(int(start), int(end)) for _, start, end in self.untrained[first:last].tolist()]

    def _checked(self, ids_bytes: int, tables_bytes: int, expected: int) -> bytes:
        """The bytes of FACTS and UNTRAINED, after everything has been read once."""
        crc, tables = 0, io.BytesIO()
        for chunk in self._chunks(ids_bytes):
            crc = zlib.crc32(chunk, crc)
        for chunk in self._chunks(tables_bytes):
            crc = zlib.crc32(chunk, crc)
            tables.write(chunk)
        if crc != expected or self._file.read(1):
            raise ValueError("it is damaged")
        return tables.getvalue()

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self._file.read(min(size, _CHUNK_BYTES))
            if not chunk:
                raise ValueError("it has been cut short")
            size -= len(chunk)
            yield chunk


def _header(data: bytes) -> _Header:
    if not data.startswith(_MAGIC):
        raise ValueError("it is no file of tokens")
    try:
        header = _Header(*json.loads(data.removeprefix(_MAGIC)))
        is_one = header.dtype in ("uint16", "int32") and min(header.tokens, header.conversations, header.untrained) >= 0
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("its beginning is damaged") from error
    if not is_one:
        raise ValueError("its beginning is damaged")
    return header
