"""Asking models in a process of their own: one task at a time for the whole app, with progress and a stop."""

import threading
from collections.abc import Iterator
from typing import Any

from studio.models.choices import Key
from studio.models.zero_gpu import Models
from studio.parts.working import Working


class Asking:
    """Holds what is being measured now."""

    def __init__(self, models: Models | None):
        self._models = models
        self._stop: threading.Event | None = None
        self._lock = threading.Lock()
        self._names: list[str] = []

    @property
    def is_active(self) -> bool:
        """Whether models are being asked."""
        return self._stop is not None

    @property
    def names(self) -> list[str]:
        """The models that are being asked now: their folders must stay as they are."""
        return list(self._names)

    def ask(self, models: list[Key], wanted: dict[str, Any]) -> Iterator[str]:
        """Measure what is wanted of each model that is not known yet; HTML of the progress.

        It goes on when the page is closed. ValueError in a sentence, also while something else is being measured.
        """
        assert self._models is not None, "the button is not shown without"
        evaluate = self._models.evaluate
        stop = self._begin([name for name, _ in models])

        def work(report: Any) -> bool:
            try:
                return evaluate(models, wanted, report, stop)
            finally:
                self._names, self._stop = [], None

        asking = Working(work)
        yield from asking
        asking.result()

    def stop(self) -> bool:
        """Stop what is being measured; what was answered by then is kept. Whether anything was."""
        stop = self._stop
        if stop is not None:
            stop.set()
        return stop is not None

    def _begin(self, names: list[str]) -> threading.Event:
        with self._lock:
            if self._stop is not None:
                raise ValueError("Models are being asked already. Wait until that is done, or stop it.")
            self._names, self._stop = names, threading.Event()
            return self._stop
