"""The one way into a file of any kind: encoding, table or JSON, rows that belong together; out come pieces of JSON."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

from nanochat_core.data.encoding import as_utf8
from nanochat_core.data.file_kinds import foreign_kind
from nanochat_core.data.formats.chains import Joined, belong_together, joined_rows
from nanochat_core.data.formats.table import as_json, rows_of
from nanochat_core.data.reader import BOM, Piece, head_of, layout, pieces
from nanochat_core.data.report import Unusable

_TABLE = "made a conversation of each row of the table"
_TOGETHER = "joined the rows that belong to one conversation, as their keys say"


@dataclass
class Records:
    """The records of a file."""

    pieces: Iterator[Piece]
    done: list[str]
    """What was done with the file as a whole, in sentences."""
    notes: list[str]
    """What is done with its records, in few words."""
    is_spread: bool = False
    """Whether a record may be spread over lines."""
    is_table: bool = False
    """Whether they are the rows of a table."""


@contextlib.contextmanager
def records_of(original: BinaryIO, name: str, is_table: bool = False) -> Iterator[Records]:
    """The records of an opened file, which is called `name`. Unusable when it holds none that could be read.

    is_table: read it as a table even where its beginning does not look like one.
    """
    with as_utf8(original, head_of(original)) as (file, done):
        fault = foreign_kind(head := head_of(file))
        is_json = head.removeprefix(BOM).lstrip().startswith((b"{", b"["))  # whatever the file is called
        is_table = is_table and not is_json and (fault is None or fault.kind != "late_names")
        if is_table or (fault is not None and fault.kind == "table"):
            rows = rows_of(file, name)
            found = (Piece(row.line, 0, None if row.fault else as_json(row.record), 0, row.fault) for row in rows)
            yield _together(Records(found, done, [_TABLE], is_table=True))
            return
        if fault is not None:
            raise Unusable(f"{name} cannot be used: {fault.message}", fault.fix)
        how = layout(head)
        notes = ["removed a byte order mark (BOM)"] if how.is_spread and head.startswith(BOM) else []
        notes += ["turned a JSON array into one conversation a line"] if how.is_array else []
        yield _together(Records(pieces(file, how), done, notes, how.is_spread))


def _together(records: Records) -> Records:
    """The same records, or conversations when the first of them says that it belongs to others."""
    first = next(records.pieces, None)
    records.pieces = chain([first] if first is not None else [], records.pieces)
    if first is None or not belong_together(_parsed(first.data)):
        return records
    found = list(records.pieces)
    joined, others = _joined(found)
    records.notes += [_TOGETHER] if len(joined.rows) + len(others) < len(found) else []
    records.done += joined.notes
    records.pieces = chain((Piece(line, 0, as_json(record)) for line, record in joined.rows), others)
    return records


def _joined(found: list[Piece]) -> tuple[Joined, list[Piece]]:
    """(the rows as conversations, what is no row)."""
    rows, others = [], []
    for piece in found:
        value = _parsed(piece.data)
        if isinstance(value, dict):
            rows.append((piece.line, value))
        else:
            others.append(piece)
    return joined_rows(rows), others


def _parsed(data: bytes | None) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(data) if data is not None else None
    return None
