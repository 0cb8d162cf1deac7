"""Showing a run while it trains: in a notebook a card that is brought up to date, in a terminal a line.

The card is HTML that the notebook's own display machinery replaces in place: it needs no widgets and no scripts, and
what is stored with the notebook is its last state.
"""

import contextlib
import contextvars
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from nanochat_core.runs.card import run_line
from nanochat_core.runs.status import RunStatus

LOOK_EVERY_SECONDS = 0.5


class Watched(Protocol):
    """A run, as far as it is watched."""

    def status(self) -> RunStatus:
        """How the run is now."""

    def wait(self, timeout: float | None = None) -> RunStatus:
        """Wait until the run is over, at most `timeout` seconds. Returns how it is then."""

    def _repr_html_(self) -> str: ...


def in_notebook() -> bool:
    """Whether this is a notebook's kernel, so that HTML can be shown."""
    ipython = sys.modules.get("IPython")  # where it was never imported, this is no notebook
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def watch(run: Watched) -> RunStatus:
    """Show how `run` goes until it is over, and return its last status. An interruption only ends the watching."""
    shown = _Card(run) if in_notebook() else _Line()
    while True:
        status = run.wait(timeout=LOOK_EVERY_SECONDS)
        shown.update(status)
        if status.is_over:
            status = run.wait()
            shown.end(status)
            return status


@contextlib.contextmanager
def shown_meanwhile(run: Watched) -> Iterator[None]:
    """In a notebook, keep a card of `run` up to date from a thread while this block trains it; elsewhere nothing."""
    if not in_notebook():
        yield
        return
    card, ended = _Card(run), threading.Event()

    def keep_up() -> None:
        while not ended.wait(LOOK_EVERY_SECONDS):
            card.update(run.status())

    # The thread's output belongs to the cell that runs now: the kernel keeps that in a context variable.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(keep_up,), name="run-card", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        card.end(run.status())


class _Card:
    """The run's HTML in the cell's output, replaced when it has changed."""

    def __init__(self, run: Watched):
        from IPython.display import display  # noqa: PLC0415  there, since this is a notebook

        self.run = run
        self._handle = display(_Still(run._repr_html_(), run_line(run.status())), display_id=True)
        self._shown = ""

    def update(self, status: RunStatus) -> None:
        html = self.run._repr_html_()
        if html != self._shown:
            self._handle.update(_Still(html, run_line(status)))
            self._shown = html

    end = update


class _Still:
    """One state of the card; its text is for pages that show no HTML."""

    def __init__(self, html: str, text: str):
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


class _Line:
    """One line, rewritten in place on a terminal; in a file, one line for every tenth of the way."""

    def __init__(self) -> None:
        self._last: Any = None
        self._in_place = sys.stdout.isatty()

    def update(self, status: RunStatus) -> None:
        mark = run_line(status) if self._in_place else (status.state, 10 * status.step // max(1, status.steps))
        if mark != self._last:
            self._write(run_line(status), "" if self._in_place else "\n")
            self._last = mark

    def end(self, status: RunStatus) -> None:
        if self._in_place:
            self._write(run_line(status), "\n")
        else:
            self.update(status)

    def _write(self, text: str, end: str) -> None:
        if self._in_place:  # a line that wraps could not be taken back
            text = "\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1]
        print(text, end=end, flush=True)
