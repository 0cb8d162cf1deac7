"""Work that takes a while, as an iterator of progress bars: what a handler yields until the result is there."""

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from studio.parts import html

TICK_SECONDS = 0.1
"""More often than this no browser needs to hear."""

Report = Callable[[float, str], Any]
"""Called with how far something is, 0 to 1, and what it is doing."""

T = TypeVar("T")


def progress_html(fraction: float, text: str) -> str:
    """How far something is, and what it is doing."""
    return (
        html.bar(round(100 * fraction), 100, label="Done, in percent")
        + f'<p class="chat-facts">{html.escape(text)}</p>'
    )


class Working(Generic[T]):
    """Does `work(report)` in a thread. Iterate it for HTML of the progress, then take `result()`.

    `left` is set when whoever iterates goes away, such as a browser that is closed.
    """

    def __init__(self, work: Callable[[Report], T]):
        self.left = threading.Event()
        self._work = work
        self._reports: queue.Queue[tuple[float, str] | None] = queue.Queue()
        self._result: list[T] = []  # one, or none while it is not there
        self._error: ValueError | None = None

    def __iter__(self) -> Iterator[str]:
        # With the context of the event: it knows who asked.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._do,), name="working", daemon=True).start()
        try:
            while report := self._reports.get():
                if self._reports.qsize() < 2:  # of many at once only the newest are worth showing
                    yield progress_html(*report)
                    time.sleep(TICK_SECONDS)
        except GeneratorExit:
            self.left.set()
            raise

    def result(self) -> T:
        """What the work returned. ValueError when it raised one."""
        if self._error:
            raise self._error
        return self._result[0]

    def _do(self) -> None:
        try:
            self._result.append(self._work(lambda fraction, text: self._reports.put((fraction, text))))
        except ValueError as error:
            self._error = error
        finally:
            self._reports.put(None)
