"""Import conversations from a dataset on the hub: parquet or JSONL, read in parts, so that a few rows cost little."""

import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
from huggingface_hub import CardData, HfApi, HfFileSystem
from huggingface_hub.hf_api import DatasetInfo
from huggingface_hub.utils import tqdm

from nanochat_core.data.conversations import check
from nanochat_core.data.formats.columns import columns_read
from nanochat_core.data.formats.names import OWN, RATINGS, plain
from nanochat_core.data.formats.record import TEXTS, imported_keys, recognise
from nanochat_core.data.line import to_line
from nanochat_core.data.reader import Piece, head_of, layout, pieces
from nanochat_core.data.repair.file import FixReport, repair_pieces
from nanochat_core.data.report import Report
from nanochat_core.hub.dataset_files import choose_files
from nanochat_core.hub.errors import importing, told_plainly
from nanochat_core.hub.files import RemoteFile, check_repo, files_at
from nanochat_core.system.files import check_new
from nanochat_core.system.words import plural

Progress = Callable[[int, int | None], Any]
"""Called with (rows read, the limit or None)."""

_PART_BYTES = 8 << 20  # what one request fetches
_SMALL_PART_BYTES = 1 << 20  # the same with a limit, where what is too much is wasted
_BATCH_ROWS = 500
_TRIED_ROWS = 100  # after so many rows of no known format the rest of a large file need not be read
_FORMATS = (
    "messages, conversations (ShareGPT), instruction and output (Alpaca), prompt and completion, chosen and rejected"
)


@dataclass(frozen=True)
class ImportReport:
    """What came of an import."""

    repo: str
    files: tuple[str, ...]
    """Paths in the repository that belong to the split."""
    rows: int
    """Rows that were read."""
    repaired: FixReport
    """What was written, changed and left out, and why; its line numbers count the rows."""
    checked: Report
    """The check of the new file."""
    unused: tuple[str, ...] = ()
    """Columns that are no part of the conversations and were not imported."""

    def summary(self) -> str:
        """Text for a person."""
        read = f"Read {plural(self.rows, 'row')} of {self.repo}."
        if self.unused:
            read += f" These columns are no part of the conversations and were not imported: {', '.join(self.unused)}."
        return f"{read}\n{self.repaired.summary()}\n{self.checked.summary()}"


def import_dataset(
    repo: str,
    out: str | Path,
    split: str = "train",
    config: str | None = None,
    limit: int | None = None,
    report: Progress | None = None,
) -> ImportReport:
    """Write the conversations of a dataset on the hub to `out`, a new JSONL file that passes `check`.

    limit: read no more than this many rows; with a small one only the beginning of the data is fetched.
    report replaces the terminal's sizes and bar. Rows that cannot be used are left out, and the report says why.
    Raises ValueError when `out` exists, for every fault of the hub, and when no row can be used; nothing is written.
    """
    check_repo(repo)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: it must be at least 1, or left out to read every row.")
    out = Path(out)
    check_new(out)
    with told_plainly(importing(repo, out)):
        api = HfApi()
        info = api.dataset_info(repo, revision="main")
        commit = str(info.sha)
        files = choose_files(repo, files_at(api, repo, commit, "dataset"), _configs(info), split, config)
    rows = _Rows(repo, commit, files, out, _SMALL_PART_BYTES if limit else _PART_BYTES)
    shown = _shown(repo, files, limit) if report is None else report
    repaired = repair_pieces(f"the dataset {repo}", rows.pieces(limit, shown), out)
    return ImportReport(repo, tuple(file.path for file in files), rows.count, repaired, check(out), tuple(rows.unused))


def _configs(info: DatasetInfo) -> Any:
    """What the dataset's card says of its configurations; None without a card, or with one that is no table."""
    return info.card_data.get("configs") if isinstance(info.card_data, CardData) else None


def _shown(repo: str, files: list[RemoteFile], limit: int | None) -> Progress:
    """Prints the sizes, and shows a bar in the terminal."""
    size = sum(file.size for file in files)
    most = f" Of these, what the first {plural(limit, 'row')} take is fetched." if limit else ""
    print(f"{repo}: {plural(len(files), 'file')}, {size / 1e6:,.1f} MB.{most}", flush=True)
    bar = tqdm(total=limit, unit=" rows", desc="Importing", disable=None)

    def show(rows: int, _: int | None) -> None:
        bar.update(rows - bar.n)
        if rows == limit:
            bar.close()

    return show


class _Rows:
    """Reads the rows of some files of one commit, as pieces of JSON, and counts them."""

    def __init__(self, repo: str, commit: str, files: list[RemoteFile], out: Path, part_bytes: int):
        self.repo, self.commit, self.files, self.out, self.part_bytes = repo, commit, files, out, part_bytes
        self.count = 0
        self.unused: dict[str, None] = {}

    def pieces(self, limit: int | None, progress: Progress) -> Iterator[Piece]:
        """Every row as one piece, its number for the line; at most `limit`."""
        with told_plainly(importing(self.repo, self.out)):  # here, where the hub is read: writing has its own sentences
            for data in islice(self._all(), limit):
                self.count += 1
                progress(self.count, limit)
                yield Piece(self.count, 0, data)

    def _all(self) -> Iterator[bytes | None]:
        hub = HfFileSystem()
        for file in self.files:
            address = f"datasets/{self.repo}@{self.commit}/{file.path}"
            if file.path.endswith(".parquet"):
                with hub.open(address, "rb", block_size=self.part_bytes, cache_type="none") as content:
                    yield from self._of_parquet(file, content)
            else:
                with hub.open(address, "rb", block_size=self.part_bytes, cache_type="readahead") as content:
                    yield from self._of_json(file, io.BufferedReader(content, self.part_bytes))

    def _of_parquet(self, file: RemoteFile, content: BinaryIO) -> Iterator[bytes]:
        """Rows by the columns that are needed, in parts of their row groups."""
        try:
            table = pyarrow.parquet.ParquetFile(content, buffer_size=self.part_bytes, pre_buffer=False)
            columns = self._columns(table)
            for batch in table.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    yield _as_line(self._relevant({key: _as_list(value) for key, value in row.items()}))
        except MemoryError as error:
            raise ValueError(
                f"{file.path} of {self.repo} unpacks to more than the memory there is for it. Take another dataset."
            ) from error
        except pyarrow.ArrowInvalid as error:
            raise ValueError(
                f"{file.path} of {self.repo} cannot be read as parquet ({error}). Tell its owner, or take another."
            ) from error

    def _columns(self, table: pyarrow.parquet.ParquetFile) -> list[str]:
        names = table.schema_arrow.names
        keys = columns_read(names) - _ratings(names)
        if not keys and (texts := [name for name in names if plain(name) in TEXTS]):
            first = next(table.iter_batches(1, columns=texts, use_threads=False), None)
            keys = imported_keys(first.to_pylist()[0]) if first is not None and first.num_rows else set()
        if not keys:
            raise self._unknown(names)
        self.unused.update((name, None) for name in names if name not in keys)
        return [name for name in names if name in keys]

    def _of_json(self, file: RemoteFile, content: BinaryIO) -> Iterator[bytes | None]:
        """Rows of JSON lines, or of a file that is one JSON array; what cannot be read is left to the repair."""
        known = False
        for number, piece in enumerate(pieces(content, layout(head_of(content))), 1):
            row = _parsed(piece.data)
            known = known or isinstance(row, list) or (isinstance(row, dict) and bool(_keys(row)))
            if not known and number == _TRIED_ROWS:
                raise self._unknown(row if isinstance(row, dict) else [file.path])
            yield piece.data if row is None else _as_line(self._relevant(row))

    def _relevant(self, row: Any) -> Any:
        """The row without the columns that are no part of the conversation, and without null."""
        keys = _keys(row) if isinstance(row, dict) else set()
        if not keys:
            return row
        self.unused.update((key, None) for key, value in row.items() if key not in keys and value is not None)
        kept = {key: value for key, value in row.items() if key in keys and value is not None}
        return {key: [*map(_message, value)] if isinstance(value, list) else value for key, value in kept.items()}

    def _unknown(self, names: Iterable[str]) -> ValueError:
        columns = ", ".join(list(names)[:20])
        return ValueError(
            f"The dataset {self.repo} has the columns {columns}, which are no conversations. Needed are {_FORMATS}."
        )


def _as_list(value: Any) -> Any:
    """A list of messages that the table keeps as one list for each of their keys, as some libraries write it."""
    if not (isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values())):
        return value
    return [dict(zip(value, message)) for message in zip(*value.values())]


def _parsed(data: bytes | None) -> Any:
    """The JSON value of a piece; None when it is none, too long or too deep."""
    try:
        return json.loads(data) if data is not None else None
    except (ValueError, RecursionError):
        return None


def _ratings(names: Iterable[str]) -> set[str]:
    return {name for name in names if plain(name) in RATINGS}


def _keys(row: dict[str, Any]) -> set[str]:
    """The keys that make the conversation or say something about it; empty when the row is of no known layout."""
    if "messages" not in row and not recognise(row):
        return set()
    return (columns_read(row) or imported_keys(row)) - _ratings(row) - _whole_text(row)


def _whole_text(row: dict[str, Any]) -> set[str]:
    """The key of a text that repeats question and answer, as Alpaca's has it, and is no part of them."""
    keys = {key for key in row if plain(key) == "text" and "instruction" in row}
    try:
        return keys - imported_keys(row) if keys else keys
    except ValueError:
        return set()


def _message(message: Any) -> Any:
    """A turn without what a table fills up with null, and without bookkeeping."""
    if not isinstance(message, dict):
        return message
    kept = {key: value for key, value in message.items() if plain(key) not in OWN and value not in (None, [], {})}
    if isinstance(kept.get("content"), list):
        kept["content"] = [_without_null(part) for part in kept["content"]]
    return kept


def _without_null(part: Any) -> Any:
    return {key: value for key, value in part.items() if value is not None} if isinstance(part, dict) else part


def _as_line(row: Any) -> bytes:
    try:
        return to_line(row)
    except (TypeError, ValueError, RecursionError):  # bytes, dates: no text of a conversation
        return json.dumps(row, default=str).encode()
