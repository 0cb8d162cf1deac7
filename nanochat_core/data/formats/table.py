"""Tables (CSV, TSV, Excel's) of conversations: rows as records, by the names of their columns."""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from typing import Any, BinaryIO, NamedTuple

from nanochat_core.data.formats import names
from nanochat_core.data.formats.columns import columns_read
from nanochat_core.data.formats.names import plain
from nanochat_core.data.formats.record import TEXTS
from nanochat_core.data.report import Fault, Unusable
from nanochat_core.system.words import plural
from nanochat_core.tokenizer.messages import LEARN_MARKS, SKIP_MARKS, says

_SEPARATORS = "\t;,|"
_SEP_LINE = re.compile(r"sep=(.)\s*$", re.IGNORECASE)
_AFTER_QUOTE = re.compile(r'"[ ]+(?=[\t;,|\r\n]|$)')
"""Blanks behind a closing quote."""
_EMPTY_CELLS = ' \t\r\n;,|"'
_LATEST_NAMES = 6
"""Lines among which the names of the columns are looked for, below a title."""
_LONGEST_NAME = 40
_LONGEST_CELL = 32 << 20
_ROWS_TRIED = 20
_REMEDY = (
    "Name two of the columns prompt and completion (or question and answer, instruction and output), or one of them "
    "messages; columns system and history are read too."
)


class Row(NamedTuple):
    """One row of a table."""

    line: int
    record: dict[str, object]
    fault: Fault | None


def columns_of(head: bytes) -> list[str]:
    """The names of a table's columns, from the beginning of a file in UTF-8; [] for what is no table."""
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head.removeprefix(codecs.BOM_UTF8))
    lines = text.splitlines(keepends=True)
    if lines and (said := _SEP_LINE.match(lines[0].strip())):
        return _names(lines[1:2], said[1]) or [""]
    first = next((line for line in lines if line.strip(_EMPTY_CELLS)), "")
    if not first.strip() or first.lstrip()[:1] in ("{", "[") or "\ufffd" in first or "\0" in text:
        return []
    separator = _separator(first)
    columns = _names([first], separator)
    if len(columns) < 2:
        is_quoted = len(lines) > 1 and lines[1].lstrip().startswith('"')
        alone = (*names.TURNS[:3], "text") if is_quoted else names.TURNS[:3]
        return [plain(columns[0])] if columns and plain(columns[0]) in alone and len(lines) > 1 else []
    if (
        columns_read(columns)
        and len(set(map(plain, columns)) & {*names.QUESTIONS, *names.ANSWERS, *names.TURNS, "role", "text"}) > 1
    ):
        return columns
    return columns if _looks_even(lines, columns, separator) else []


def late_names(head: bytes) -> Fault | None:
    """The fault of a table below whose title the names of the columns stand; None for any other file."""
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head.removeprefix(codecs.BOM_UTF8))
    lines = [line for line in text.splitlines()[:_LATEST_NAMES] if line.strip(_EMPTY_CELLS)]
    if not lines or lines[0].lstrip()[:1] in ("{", "["):
        return None
    for line in lines[1:]:
        columns = _names([line], _separator(line))
        if len(columns) > 1 and columns_read(columns):
            message = (
                f"This is a table (CSV), and the names of its columns ({', '.join(columns[:8])}) are not at its top."
            )
            return Fault("error", "late_names", message, "Remove the lines above them.")
    return None


def _looks_even(lines: list[str], columns: list[str], separator: str) -> bool:
    """Whether the first rows have as many cells as there are names, which are words and not sentences or JSON."""
    if any(not name or len(name) > _LONGEST_NAME or re.search(r"[{}\[\]<>?!]|[.:] ", name) for name in columns):
        return False
    if len(set(columns)) < len(columns) or any(re.fullmatch(r"[\d.,:/ -]+", name) for name in columns):
        return False
    rows = [row for row in _reader(lines[: _ROWS_TRIED + 1], separator) if any(row)]
    return len(rows) > 1 and all(len(row) == len(columns) for row in rows[1:][: max(1, len(rows) - 2)])


def _reader(lines: Iterable[str], separator: str, strict: bool = False) -> Any:
    """csv's reader. A blank between separator and quote is none of a text: people who write by hand put one there."""
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator != "\t", strict=strict)


def _separator(header: str) -> str:
    return max(_SEPARATORS, key=header.count)


def _names(lines: list[str], separator: str) -> list[str]:
    return [name.strip() for name in next(_reader(lines, separator), [])]


def table_fault(columns: list[str]) -> Fault:
    """The one fault of a file that is a table."""
    listed = ", ".join(columns[:8]) + (" and more" if len(columns) > 8 else "")
    message = f"This is a table (CSV) with the columns {listed}, not a file of JSON lines."
    if twice := _twice(columns):
        return Fault("error", "table", message, f"{twice}.")
    if columns_read(columns):
        return Fault("error", "table", message, "Write each row as a line of JSON.", can_fix=True)
    return Fault("error", "table", f"{message} Which of them is the question and which the answer?", _REMEDY)


def _twice(columns: list[str]) -> str:
    """That a column which is read has a namesake, as a sentence without its full stop; "" when none has."""
    counts = Counter(plain(column) for column in columns if column)
    names_twice = [name for name in map(plain, columns_read(columns)) if counts[name] > 1]
    return (
        f"Two columns are called {names_twice[0]}: give the one that is meant a name of its own" if names_twice else ""
    )


def rows_of(file: BinaryIO, name: str) -> Iterator[Row]:
    """The rows of a table in UTF-8, as records by the names of their columns; `name` is what the file is called.

    Unusable when the columns are of no known layout, or when the table is no table after all.
    """
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="strict", newline="")
    csv.field_size_limit(_LONGEST_CELL)
    try:
        yield from _rows(text, name)
    except UnicodeDecodeError as error:
        raise Unusable(f"{name} is not UTF-8 text.", "Save it again as UTF-8.") from error
    except csv.Error as error:
        raise Unusable(f"{name} cannot be read as a table: {error}.", "Export it again as CSV.") from error
    finally:
        if not file.closed:  # as it is when nobody has read to the end
            text.detach()


def _rows(text: io.TextIOWrapper, name: str) -> Iterator[Row]:
    first, skipped = text.readline(), 0
    while first and not first.strip(_EMPTY_CELLS):
        first, skipped = text.readline(), skipped + 1
    raw: list[str] = []
    if mark := _SEP_LINE.match(first.strip()):
        skipped += 1
        reader = _reader(_noted(text, raw), separator := mark[1])
    else:
        reader = _reader(_noted(chain([first], text), raw), separator := _separator(first))
    columns = [column.strip() for column in next(reader, [])]
    if not any(columns):
        raise Unusable(f"{name} holds no table: it is blank.", "Export it again, with the names of its columns.")
    if not columns_read(columns) and not any(plain(column) in TEXTS for column in columns):
        listed = ", ".join(columns[:8])
        raise Unusable(f"{name} has the columns {listed}.", _REMEDY)
    if twice := _twice(columns):
        raise Unusable(f"{name} cannot be read.", f"{twice}.")
    begins = reader.line_num + 1
    raw.clear()
    for cells in reader:
        line, begins = begins + skipped, reader.line_num + 1
        if any(cell.strip() for cell in cells):
            yield Row(line, _record(columns, cells), _fault(columns, cells, raw, separator))
        raw.clear()


def _noted(text: Iterable[str], raw: list[str]) -> Iterator[str]:
    """The lines of a text; those of the row that is being read are in `raw` too."""
    for line in text:
        raw.append(line)
        yield line


def _fault(columns: list[str], cells: list[str], raw: list[str], separator: str) -> Fault | None:
    """What is wrong with a row's quotes, or that it has more cells than there are columns."""
    if wrong := _wrong_quote(raw, separator):
        return Fault("error", "quote_not_closed", *wrong)
    if [cell.strip().removeprefix("\ufeff") for cell in cells] == columns:
        message = "This row repeats the names of the columns, as where two tables were joined."
        return Fault("error", "uneven_row", message, "Remove it.")
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        message = f"This row has {len(cells)} cells, and there are {len(columns)} columns."
        fix = "Put quotes around a text that holds the separator."
        return Fault("error", "uneven_row", message, fix)
    return None


def _wrong_quote(raw: list[str], separator: str) -> tuple[str, str] | None:
    """(what is wrong with the quotes of a row, the remedy): it was read, but not as anybody meant it."""
    if not any('"' in line for line in raw):
        return None
    try:
        next(_reader([_AFTER_QUOTE.sub('"', line) for line in raw], separator, strict=True), None)
    except csv.Error as error:
        if "end of data" in str(error):
            taken = f": it has taken in {plural(len(raw) - 1, 'line')} below" if len(raw) > 1 else ""
            fix = "Close the quote, or write two for one that is meant."
            return f"A quote that opens here is never closed{taken}.", fix
        fix = 'Write two quotes ("") for one that is meant, also in the place of a backslash and a quote (\\").'
        return "A quote inside a text in quotes ends it too early.", fix
    return None


def _record(columns: list[str], cells: list[str]) -> dict[str, object]:
    record: dict[str, object] = {}
    for name, cell in zip_longest(columns, cells[: len(columns)], fillvalue=""):
        if name and cell.strip():
            record[name] = _cell(plain(name), cell.replace("\r\n", "\n"))
        elif plain(name) in names.PARENTS:
            record[name] = None  # it begins a branch
    return record


def _cell(name: str, cell: str) -> object:
    """A table knows texts only: a verdict or a mark is meant as what it says."""
    if name in names.BAD_IF_FALSE | names.BAD_IF_TRUE | LEARN_MARKS | SKIP_MARKS:
        word = cell.strip().lower()
        if word in ("true", "false"):
            return word == "true"
        if name in LEARN_MARKS and says(word) is not None:
            return int(bool(says(word)))
    return cell


def as_json(record: dict[str, object]) -> bytes:
    """A record as a line of JSON."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")
