"""Counts an opened dataset's tokens with a model's tokenizer, in the background where the dataset is large."""

import threading
import time
from functools import lru_cache
from weakref import WeakKeyDictionary

from nanochat_core.paths import default_model, find_model, list_models
from nanochat_core.rendering import Rendering
from nanochat_core.tokenizer import Tokenizer
from studio.data_rows import UNKNOWN, Rows
from studio.data_session import Session

AT_ONCE = 2_000
"""Rows that are counted before the page is shown (about a second)."""
_CHUNK = 200


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
        """Count all rows that are not counted; all of them anew when the model or the length is another one."""
        rendering = Rendering(tokenizer_of(model))
        with session.lock:
            if (model, max_seq_len) != (self.model, self.max_seq_len):
                self.model, self.max_seq_len = model, max_seq_len
                self._run += 1
                forget(session.rows)
            waiting = uncounted(session.rows)
            if len(waiting) <= AT_ONCE:
                for start in range(0, len(waiting), _CHUNK):
                    session.rows.count(waiting[start : start + _CHUNK], rendering, max_seq_len)
            elif self._thread is None or not self._thread.is_alive():
                arguments = (session, rendering, waiting, self._run)
                self._thread = threading.Thread(target=self._count, args=arguments, name="count tokens", daemon=True)
                self._thread.start()

    def _count(self, session: Session, rendering: Rendering, waiting: list[int], run: int) -> None:
        """In small pieces, so that a click never waits for the lock."""
        for start in range(0, len(waiting), _CHUNK):
            with session.lock:
                if run != self._run:
                    return  # another model: the next `start` begins anew
                rows = [row for row in waiting[start : start + _CHUNK] if session.rows.tokens[row] == UNKNOWN]
                session.rows.count(rows, rendering, self.max_seq_len)
            time.sleep(0.0005)  # a lock is not fair: without a pause whoever clicks would wait until the end

    def wait(self) -> None:
        """Until everything is counted (for tests and measurements)."""
        if self._thread:
            self._thread.join()


_counters: "WeakKeyDictionary[Session, Counter]" = WeakKeyDictionary()


def counter_of(session: Session) -> Counter:
    """The one counter of a session."""
    with session.lock:
        return _counters.setdefault(session, Counter())


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
