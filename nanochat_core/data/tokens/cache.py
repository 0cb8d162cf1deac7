"""The tokens of a data file: checked and tokenized once, and found again by the content of the file.

The cache lies in data/.cache under `home()` and may be removed at any time.
"""

import contextlib
import hashlib
import io
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import tiktoken

from nanochat_core.data.chunk import Wanted
from nanochat_core.data.reader import head_of, open_data
from nanochat_core.data.survey import Progress, survey
from nanochat_core.data.tokens.file import TokenFile, TokenWriter
from nanochat_core.paths import home
from nanochat_core.system.files import sha256_of, write_atomically
from nanochat_core.tokenizer.rendering import Rendering
from nanochat_core.tokenizer.tokenizer import Tokenizer

CACHED_BYTES = 4 << 20
"""Smaller files are tokenized each time: that takes less than half a second."""
LARGEST_CACHE = 20 << 30
"""Bytes. Beyond, what was not used for the longest time is removed."""

_DAY = 24 * 3600.0
_PACKAGE = Path(__file__).parents[2]
_SOURCES = (
    *(f"data/{name}.py" for name in ("chunk", "encoding", "ends", "file_kinds", "json_faults", "keys", "length")),
    *(f"data/{name}.py" for name in ("line", "notes", "reader", "records", "report", "roles", "rules", "survey")),
    *(f"data/{name}.py" for name in ("text_marks", "tokens/file", "workers")),
    *(f"data/formats/{name}.py" for name in ("chains", "choices", "columns", "exports", "marked_text", "names")),
    *(f"data/formats/{name}.py" for name in ("pairs", "preference", "record", "table", "turns")),
    *(f"data/repair/{name}.py" for name in ("file", "line", "rules")),
    *(f"tokenizer/{name}.py" for name in ("compiled", "messages", "pickle_file", "rendering", "tokenizer")),
    "system/words.py",  # which texts say something
    *(f"native/c/{name}" for name in ("layout.h", "merges.h", "pieces.h", "tokenize.c")),
)
"""The code that decides what is accepted and what the ids are; a test holds it against what is imported."""


def cache_dir() -> Path:
    """Where the token files lie."""
    return home() / "data" / ".cache"


def tokenized(
    path: str | Path,
    tokenizer: Tokenizer,
    max_seq_len: int,
    say: Callable[[str], Any] = lambda text: None,
    progress: Progress | None = None,
) -> TokenFile:
    """The conversations of a data file as ids, at most `max_seq_len` each: from the cache, or made now.

    `say` gets a sentence when a cache cannot be used. ValueError with the report's summary when the file is rejected.
    """
    source = _Source(path, tokenizer, max_seq_len, progress)
    with open_data(path) as file:
        head, size = head_of(file), os.fstat(file.fileno()).st_size
    if size < CACHED_BYTES:
        return source.in_memory()
    place = cache_dir() / f"{_key(head, size, tokenizer, max_seq_len)}.tokens"
    if found := _opened(place, path, say):
        return found
    try:
        if _free_bytes(cache_dir()) < size:
            raise OSError("there is too little space")
        write_atomically(place, source.write)
    except OSError as error:
        say(f"The tokenized data is kept in memory: {cache_dir()} cannot take it ({error.strerror or error}).")
        return source.in_memory()
    _make_room(place)
    return TokenFile.open(place)


class _Source:
    """A data file to be checked and tokenized."""

    def __init__(self, path: str | Path, tokenizer: Tokenizer, max_seq_len: int, progress: Progress | None):
        self._path, self._progress, self._dtype = path, progress, Rendering(tokenizer).dtype
        self._wanted = Wanted(tokenizer, max_seq_len, tokens=True)

    def write(self, file: BinaryIO) -> None:
        """Write the token file. ValueError when the data is rejected."""
        writer = TokenWriter(file, self._dtype)
        readers: list[_HashingReader] = []

        def opened(raw: BinaryIO) -> BinaryIO:
            readers.append(_HashingReader(raw))
            return cast(BinaryIO, readers[0])  # as much of one as a survey uses

        report = survey(self._path, self._wanted, writer.add, self._progress, opened)
        if report.verdict == "reject":
            raise ValueError(report.summary())
        writer.finish(readers[0].digest.hexdigest(), report.counts)

    def in_memory(self) -> TokenFile:
        file = io.BytesIO()
        self.write(file)
        file.seek(0)
        return TokenFile(file)


class _HashingReader:
    """A file that is read from its beginning to its end, and the SHA-256 of what was read since its beginning."""

    def __init__(self, file: BinaryIO):
        self._file, self.digest = file, hashlib.sha256()

    def seek(self, offset: int) -> int:
        assert offset == 0
        self.digest = hashlib.sha256()
        return self._file.seek(0)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int) -> bytes:
        return self._noted(self._file.read(size))

    def readline(self, size: int) -> bytes:
        return self._noted(self._file.readline(size))

    def _noted(self, data: bytes) -> bytes:
        self.digest.update(data)
        return data


def _key(head: bytes, size: int, tokenizer: Tokenizer, max_seq_len: int) -> str:
    """Where the tokens are looked for: by the data, as far as that is known at once, and all else that they depend on.

    That is the tokenizer, the limit, and the code that reads all three. What is found still has to name the whole
    data's SHA-256; before there is anything, a large file need not be read twice.
    """
    facts = [hashlib.sha256(head).hexdigest(), str(size), tokenizer.fingerprint(), str(max_seq_len)]
    facts += [tiktoken.__version__, *(sha256_of(_PACKAGE / name) for name in _SOURCES)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _opened(place: Path, path: str | Path, say: Callable[[str], Any]) -> TokenFile | None:
    try:
        found = TokenFile.open(place)
        if found.source != sha256_of(Path(path)):
            found.close()
            return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        say(f"The cache of the tokenized data is made again: {error}.")
        return None
    with contextlib.suppress(OSError):
        os.utime(place)  # used just now: the last to be removed
    return found


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _make_room(kept: Path) -> None:
    """Remove the token files that were not used for the longest time, and what killed processes left half written."""
    total, now = 0, time.time()
    entries = []
    for path in kept.parent.iterdir():
        with contextlib.suppress(OSError):  # renamed by the process that has just written it
            entries.append((path, path.stat()))
    for path, facts in sorted(entries, key=lambda entry: (entry[0] != kept, -entry[1].st_mtime)):
        if not stat.S_ISREG(facts.st_mode):
            continue
        total += facts.st_size
        is_left_over = path.suffix == ".tmp" and now - facts.st_mtime > _DAY
        if path != kept and (total > LARGEST_CACHE or is_left_over):
            with contextlib.suppress(OSError):  # another process was quicker, or (on Windows) reads it
                path.unlink()
