"""Asking models in a process of their own: one task at a time for the whole app, with progress and a stop.

A task goes on when the page that began it is closed, and a page that is opened meanwhile shows how far it is.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from nanochat_core.serve.messages import Fold
from studio.models.choices import Key
from studio.models.zero_gpu import Models
from studio.parts.working import Report, Working, progress_html

LOOK_SECONDS = 0.3
"""How often a page that was opened later looks how far a task is."""


@dataclass
class Task:
    """What is being done now."""

    kind: str
    """questions, data or folds: the panel that shows it."""
    of: str
    """The run whose rows are judged; "" for models that are asked."""
    names: list[str]
    """The models that are asked: their folders must stay as they are."""
    stop: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    progress: tuple[float, str] = (0.0, "")
    error: str = ""
    """Why it came to nothing, once it is over."""


class Asking:
    """Holds what is being measured now."""

    def __init__(self, models: Models | None):
        self._models = models
        self._task: Task | None = None
        self._lock = threading.Lock()

    @property
    def is_active(self) -> bool:
        """Whether models are being asked."""
        return self._task is not None

    @property
    def names(self) -> list[str]:
        """The models that are being asked now: their folders must stay as they are."""
        task = self._task
        return list(task.names) if task is not None else []

    def ask(self, models: list[Key], wanted: dict[str, Any]) -> Iterator[str]:
        """Measure what is wanted of each model that is not known yet; HTML of the progress.

        ValueError in a sentence, also while something else is being measured.
        """
        assert self._models is not None, "the button is not shown without"
        kind = "questions" if "questions" in wanted else "data"
        task = self._begin(Task(kind, "", [name for name, _ in models]))
        yield from self._do(task, partial(self._models.evaluate, models, wanted))

    def fold(self, tag: str, data: str, folds: int) -> Iterator[str]:
        """Judge the rows of a run's data by models that have not seen them; as `ask` does."""
        assert self._models is not None, "the button is not shown without"
        task = self._begin(Task("folds", tag, [f"finetuned/{tag}"]))
        yield from self._do(task, partial(self._models.fold, Fold(tag, data, folds)))

    def now(self, kind: str) -> Task | None:
        """The task that is under way, when it is of this kind."""
        task = self._task
        return task if task is not None and task.kind == kind else None

    def watch(self, task: Task) -> Iterator[str]:
        """A task that another page has begun, to its end; HTML of the progress. ValueError as the page itself had."""
        while not task.over.wait(LOOK_SECONDS):
            yield progress_html(*task.progress)
        if task.error:
            raise ValueError(task.error)

    def stop(self) -> bool:
        """Stop what is being measured; what was answered by then is kept. Whether anything was."""
        task = self._task
        if task is not None:
            task.stop.set()
        return task is not None

    def _do(self, task: Task, measure: Callable[[Report, threading.Event], bool]) -> Iterator[str]:
        def work(report: Report) -> bool:
            def told(fraction: float, text: str) -> None:
                task.progress = fraction, f"{task.of}: {text}" if task.of else text
                report(*task.progress)

            try:
                return measure(told, task.stop)
            except ValueError as error:
                task.error = str(error)
                raise
            finally:
                self._task = None
                task.over.set()

        asking = Working(work)
        yield from asking
        asking.result()

    def _begin(self, task: Task) -> Task:
        with self._lock:
            if self._task is not None:
                raise ValueError("Models are being asked already. Wait until that is done, or stop it.")
            self._task = task
            return task
