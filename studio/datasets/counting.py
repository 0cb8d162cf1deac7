"""Counts an opened dataset's tokens with a model's tokenizer, in the background where the dataset is large."""

import threading
from functools import lru_cache
from weakref import WeakKeyDictionary

from nanochat_core.paths import default_model, find_model, list_models
from nanochat_core.tokenizer.rendering import Rendering
from nanochat_core.tokenizer.tokenizer import Tokenizer
from studio.datasets.lengths import lengths
from studio.datasets.rows import UNKNOWN, Rows
from studio.datasets.session import Session

AT_ONCE, BYTES_AT_ONCE = 2_000, 4 << 20
"""Rows, and their bytes, that are counted before the page is shown: a quarter of a second, without a compiler one."""
_CHUNK, _CHUNK_BYTES = 200, 1 << 20
"""Tokenized together, but for a longer row, which goes alone."""


def tokenizer_names() -> list[str]:
    """Models whose tokenizer can be used: the one that would be finetuned first."""
    names = [model.name for model in list_models()]
    first = default_model()
    return sorted(names, key=lambda name: (name != first, name != "starter"))


def tokenizer_of(name: str) -> Tokenizer:
    """The tokenizer of a model by its name. ValueError when there is no such model, or its tokenizer cannot be read."""
    folder = find_model(name).tokenizer_dir
    return _read(str(folder), (folder / "tokenizer.pkl").stat().st_mtime_ns if folder.is_dir() else 0)


@lru_cache(maxsize=4)
def _read(folder: str, changed: int) -> Tokenizer:
    return Tokenizer.from_directory(folder)


class Counter:
    """The counting for one session: exact for every row in the end, and at once for the rows that are looked at."""

    def __init__(self) -> None:
        self.model = ""
        self.max_seq_len = 0
        self._thread: threading.Thread | None = None
        self._run = 0

    def start(self, session: Session, model: str, max_seq_len: int) -> None:
        """Count all rows that are not counted; all of them again when the model or the length is another one."""
        rendering = Rendering(tokenizer_of(model))
        with session.lock:
            if (model, max_seq_len) != (self.model, self.max_seq_len):
                self.model, self.max_seq_len = model, max_seq_len
                self._run += 1
                forget(session.rows)
            waiting, run = uncounted(session.rows), self._run
            is_little = len(waiting) <= AT_ONCE and sum(len(session.rows.data[row]) for row in waiting) <= BYTES_AT_ONCE
            if not is_little and (self._thread is None or not self._thread.is_alive()):
                arguments = (session, rendering, max_seq_len, waiting, run)
                self._thread = threading.Thread(target=self._count, args=arguments, name="count tokens", daemon=True)
                self._thread.start()
        if is_little:
            self._count(session, rendering, max_seq_len, waiting, run)

    def _count(self, session: Session, rendering: Rendering, max_seq_len: int, waiting: list[int], run: int) -> None:
        """The lock is taken to look at rows and to note what was found, never to tokenize: no click waits for that."""
        done = 0
        while done < len(waiting):
            with session.lock:
                if run != self._run:
                    return  # another model: the next `start` starts over
                some = _chunk(session.rows, waiting[done : done + _CHUNK])
                lines = [(row, session.rows.data[row]) for row in some if session.rows.tokens[row] == UNKNOWN]
            done += len(some)
            found = lengths([data for _, data in lines], rendering, max_seq_len)
            with session.lock:
                if run != self._run:
                    return
                for (row, data), length in zip(lines, found):
                    session.rows.note_length(row, data, length)

    def wait(self) -> None:
        """Until everything is counted (for tests and measurements)."""
        if self._thread:
            self._thread.join()


_counters: "WeakKeyDictionary[Session, Counter]" = WeakKeyDictionary()


def counter_of(session: Session) -> Counter:
    """The one counter of a session."""
    with session.lock:
        return _counters.setdefault(session, Counter())


def _chunk(rows: Rows, waiting: list[int]) -> list[int]:
    """The first of these rows, as many as have _CHUNK_BYTES together, or one."""
    size = 0
    for count, row in enumerate(waiting):
        size += len(rows.data[row])
        if count and size > _CHUNK_BYTES:
            return waiting[:count]
    return waiting


def forget(rows: Rows) -> None:
    """As if nothing had been counted."""
    for row in range(len(rows.data)):
        if not rows.is_faulty(row):
            rows.tokens[row] = rows.trained[row] = UNKNOWN
    rows.length_faults.clear()
    rows.version += 1


def uncounted(rows: Rows) -> list[int]:
    """Rows of the dataset whose tokens are not known yet, in their order."""
    ids = rows.ids()
    return ids[rows.column("tokens")[ids] == UNKNOWN].tolist() if len(ids) else []
