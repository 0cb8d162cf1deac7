"""From any file that a person uploads to the lines of a dataset: JSON lines as they are, other layouts converted."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nanochat_core.data.formats.record import recognise
from nanochat_core.data.line import judge_line
from nanochat_core.data.reader import BOM, MAX_PIECE_BYTES, Piece, open_data
from nanochat_core.data.records import Records, records_of
from nanochat_core.data.repair.line import repair_line
from nanochat_core.system.words import plural

Line = tuple[int, bytes]
"""Where it is in the file, from 1, and its JSON without the line end."""

_TABLE_ENDINGS = (".csv", ".tsv")
_FORMATTED = ("other_format", "preference_pair", "json_array")
_OURS = re.compile(rb'\s*(\{\s*"messages"\s*:\s*)?\[\s*\{\s*"(role|content)"')


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

    With `convert`, records of other layouts (ShareGPT, Alpaca, prompt and completion ...) become conversations.
    """
    path = Path(path)
    is_table = path.suffix.lower() in _TABLE_ENDINGS
    with open_data(path) as original, records_of(original, path.name, is_table) as records:
        if records.is_table:
            return _read_table(path, records)
        return _read_json(records, convert)


def _read_table(path: Path, records: Records) -> Imported:
    """Rows that cannot be repaired stay as records; those that have no meaning as a row are said."""
    lines: list[Line] = []
    uneven: list[int] = []
    said: Counter[str] = Counter()
    kept = 0
    for piece in records.pieces:
        if piece.data is None:
            uneven.append(piece.line)
        else:
            repaired, done = repair_line(piece.data)
            said.update(note.text for note in done if note.matters)
            kept += not repaired
            lines += [(piece.line, line) for line in repaired or [piece.data]]
    if not lines:
        raise ValueError(f"{path.name} has no rows below its header. Add some, or choose another file.")
    notes = [*records.done, f"{plural(len(lines) - kept, 'row')} of the table became conversations."]
    if kept:
        notes.append(f"{plural(kept, 'row')} stayed as in the table: the fault of each is shown with it.")
    if uneven:
        where = ", ".join(map(str, uneven[:10])) + (" and more" if len(uneven) > 10 else "")
        what = f"{plural(len(uneven), 'row')} with other cells than the header has, or a wrong quote"
        notes.append(f"LEFT OUT: {what} (line {where}).")
    return Imported(lines, notes + _counted(said), is_converted=True)


def _read_json(records: Records, convert: bool) -> Imported:
    notes = [*records.done, *(f"{note[0].upper()}{note[1:]}." for note in records.notes)]
    if records.is_spread and not records.notes:
        notes.append("The conversations were spread over several lines: each got a line of its own.")
    lines: list[Line] = []
    formats: Counter[str] = Counter()
    said: Counter[str] = Counter()
    for piece in records.pieces:
        data = _data_of(piece)
        if not data:
            continue
        if records.is_spread:
            data = _on_one_line(data)
        name = _foreign_format(data) if convert else None
        repaired, done = repair_line(data) if name else ([], [])
        formats[name or ""] += bool(repaired)
        said.update(note.text for note in done if note.matters)
        lines += [(piece.line, line) for line in repaired or [data]]
    for name, count in formats.items():
        if name and count:
            notes.append(f"{plural(count, 'record')} of the {name} format became conversations.")
    notes += _counted(said)
    return Imported(lines, notes, bool(notes))


def _counted(said: Counter[str]) -> list[str]:
    """Notes as sentences, with the number of their records."""
    return [f"{what[0].upper()}{what[1:]}: {plural(count, 'time')}." for what, count in said.items()]


def _data_of(piece: Piece) -> bytes:
    if piece.data is None:
        raise ValueError(
            f"Line {piece.line} is longer than {MAX_PIECE_BYTES >> 20} MiB. Split it before you open the file."
        )
    return piece.data.removeprefix(BOM).rstrip(b" \t\r\n")


def _foreign_format(data: bytes) -> str | None:
    """The name of a record's layout when it is another one than ours. Quick for nearly every line: no second look."""
    if _OURS.match(data) and b'"chosen' not in data and b'"rejected' not in data:
        return None
    kinds = {fault.kind for fault in judge_line(data)[1]}
    if not kinds.intersection(_FORMATTED):
        return None
    try:
        return recognise(json.loads(data)) or ("preference pair" if "preference_pair" in kinds else "list")
    except ValueError:
        return None


def _on_one_line(data: bytes) -> bytes:
    """A piece that is spread over lines, without the line breaks; written again where it can be read."""
    if b"\n" not in data and b"\r" not in data:
        return data
    try:
        return json.dumps(json.loads(data), ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return b" ".join(line.strip() for line in data.splitlines())
