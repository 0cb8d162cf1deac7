"""From any file that a person uploads to the lines of a dataset: JSON lines as they are, other formats converted."""

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nanochat_core.data.file_kinds import TABLE, foreign_kind
from nanochat_core.data.formats import PAIRS, recognise
from nanochat_core.data.line import judge_line
from nanochat_core.data.reader import BOM, MAX_PIECE_BYTES, head_of, layout, open_data, pieces
from nanochat_core.data.repair.encoding import as_utf8
from nanochat_core.data.repair.line import repair_line
from nanochat_core.system.words import plural

Line = tuple[int, bytes]
"""Where it is in the file, from 1, and its JSON without the line end."""

_TABLE_ENDINGS = (".csv", ".tsv")
_FORMATTED = ("other_format",)


@dataclass(frozen=True)
class Imported:
    """The lines of a file, and whether they are the file's own."""

    lines: list[Line]
    notes: list[str]
    """What was done, in sentences."""
    is_converted: bool
    """True when the lines are not those of the file: then they are shown before anything is saved."""


def read_lines(path: str | Path, convert: bool = True) -> Imported:
    """Every conversation of a file, the faulty ones as they are. ValueError for a file that holds none to be read.

    With `convert`, records of other formats (ShareGPT, Alpaca, prompt and completion) become conversations.
    """
    path = Path(path)
    with open_data(path) as original:
        if path.suffix.lower() in _TABLE_ENDINGS or _is_table(head_of(original)):
            return _read_table(path)
        with as_utf8(original, head_of(original)) as (file, done):
            if fault := foreign_kind(head_of(file)):
                raise ValueError(f"{path.name} cannot be opened: {fault.message} {fault.fix}")
            return _read_json(file, list(done), convert)


def _read_json(file: BinaryIO, notes: list[str], convert: bool) -> Imported:
    how = layout(head_of(file))
    if how.is_array:
        notes.append("The file is one JSON array: each of its conversations got a line of its own.")
    elif how.is_spread:
        notes.append("The conversations were spread over several lines: each got a line of its own.")
    lines: list[Line] = []
    formats: Counter[str] = Counter()
    for piece in pieces(file, how):
        if piece.data is None:
            raise ValueError(
                f"Line {piece.line} is longer than {MAX_PIECE_BYTES >> 20} MiB. Split it before you open the file."
            )
        data = piece.data.removeprefix(BOM).rstrip(b" \t\r\n")
        if not data:
            continue
        if how.is_spread:
            data = _on_one_line(data)
        name = _foreign_format(data) if convert else None
        repaired = repair_line(data)[0] if name else []
        formats[name] += bool(repaired)
        lines += [(piece.line, line) for line in repaired or [data]]
    notes += [
        f"{plural(count, 'record')} of the {name} format became conversations."
        for name, count in formats.items()
        if count
    ]
    return Imported(lines, notes, bool(notes))


def _foreign_format(data: bytes) -> str | None:
    """The name of a record's format when it is another one than ours. Quick for nearly every line: no second look."""
    if b'"messages"' in data[:64]:
        return None
    _, faults, _ = judge_line(data)
    if not any(fault.kind in _FORMATTED for fault in faults):
        return None
    with contextlib.suppress(ValueError):
        return recognise(json.loads(data)) or "ShareGPT"
    return None


def _on_one_line(data: bytes) -> bytes:
    """A piece that is spread over lines, without the line breaks; written anew where it can be read."""
    if b"\n" not in data and b"\r" not in data:
        return data
    try:
        return json.dumps(json.loads(data), ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return b" ".join(line.strip() for line in data.splitlines())


# Tables


def _is_table(head: bytes) -> bool:
    fault = foreign_kind(head)
    return fault is not None and fault.kind == TABLE


def _read_table(path: Path) -> Imported:
    """The rows of a CSV or TSV file with a header as conversations. ValueError when the columns are not known."""
    with open(path, "rb") as original, as_utf8(original, head_of(original)) as (file, done):
        file.seek(0)
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="strict", newline="")
        csv.field_size_limit(MAX_PIECE_BYTES)
        try:
            lines = list(_table_lines(path, text))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path.name} is not UTF-8 text. Save it again as UTF-8.") from error
        except csv.Error as error:
            raise ValueError(f"{path.name} cannot be read as a table: {error}. Export it again as CSV.") from error
        finally:
            text.detach()
    if not lines:
        raise ValueError(f"{path.name} has no rows below its header. Add some, or choose another file.")
    return Imported(
        lines, [*done, f"{plural(len(lines), 'row')} of the table became conversations."], is_converted=True
    )


def _table_lines(path: Path, text: io.TextIOWrapper) -> Iterator[Line]:
    sample = text.readline()
    text.seek(0)
    separator = max("\t;,", key=sample.count)
    reader = csv.reader(text, delimiter=separator)
    names = [name.strip().lower() for name in next(reader, [])]
    _refuse_columns(path, names)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num, _record_line({name: cell for name, cell in zip(names, cells, strict=False) if name})


def _record_line(record: dict[str, Any]) -> bytes:
    for name in ("messages", "conversations", "history"):
        if name in record:
            with contextlib.suppress(ValueError):
                record[name] = json.loads(record[name])
    data = json.dumps(record, ensure_ascii=False).encode("utf-8")
    return (repair_line(data)[0] or [data])[0]


def _refuse_columns(path: Path, names: list[str]) -> None:
    example = dict.fromkeys(names, "x")
    if recognise(example) or {"messages", "conversations"} & set(names):
        return
    listed = ", ".join(names[:8]) or "none"
    pairs = ", ".join(f"{one} and {two}" for one, two in (*PAIRS[:2], ("instruction", "output"), PAIRS[3]))
    raise ValueError(f"{path.name} has the columns {listed}. Name two of them {pairs}, or one of them messages.")
