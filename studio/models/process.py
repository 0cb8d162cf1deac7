"""The app's side of nanochat_core.serve.pipe: one process that holds one model, started, asked and ended from here.

However that process ends, the caller gets one sentence as a ValueError and the next `load` starts a new one.
"""

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import psutil

from nanochat_core.config import FinetuneConfig
from nanochat_core.engine.reply import Event
from nanochat_core.serve.messages import (
    LAST,
    Answer,
    Evaluate,
    Evaluated,
    Failure,
    Fold,
    Generate,
    Key,
    Load,
    Loaded,
    Measure,
    Progress,
    Request,
    Stop,
    from_json,
    to_json,
)
from nanochat_core.system.spawn import spawn
from nanochat_core.training.needs import Needs
from studio.parts.working import Report

SERVER = "nanochat_core.serve.pipe"
_END_SECONDS = 5.0
_START_SECONDS = 0.2
_LOOK_SECONDS = 0.05  # how often a waiting request looks whether it was asked to stop


Popen = subprocess.Popen[bytes]


class _Asked(NamedTuple):
    """A request that is not answered to its end yet."""

    process: Popen
    answers: "queue.Queue[Answer | None]"
    """None: the process has ended."""


class ModelProcess:
    """One worker process. Its methods may be called from any thread; requests are answered one after the other."""

    def __init__(self) -> None:
        self.loaded: Loaded | None = None
        self._process: Popen | None = None
        self._ended: Popen | None = None
        """The process that was ended from here, by whatever means."""
        self._errors: Any = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Asked] = {}
        self._lock = threading.Lock()

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def load(
        self,
        name: str,
        step: int | None = None,
        device: str = "auto",
        dtype: str | None = None,
        report: Report | None = None,
        stays: bool = False,
    ) -> Loaded:
        """Load the model NAME in a process that holds nothing yet. ValueError in a sentence when that fails.

        stays: in the process as it is, which keeps the model of an adapter for the next adapter of the same model.
        """
        report = report or _silence
        if not (stays and self.is_alive):
            report(0.0, "Starting the model's process")
            self.unload()
            self._start()
        loaded = self._finish(Load(name, step, device, dtype), report)
        assert isinstance(loaded, Loaded)
        self.loaded = loaded
        return loaded

    def generate(
        self, messages: list[dict[str, Any]], stop: threading.Event | None = None, **settings: Any
    ) -> Iterator[Event]:
        """Events of one reply, the last is Done.

        settings: max_tokens, temperature, top_k, seed. Setting `stop`, or closing the iterator, stops the model itself.
        ValueError in a sentence when the process fails or is gone.
        """
        if self.loaded is None or not self.is_alive:
            self._forget()
            raise ValueError("No model is loaded here. Load one first.")
        for answer in self._ask(Generate(messages, settings), stop):
            assert isinstance(answer, Event)
            yield answer

    def probe(self, config: FinetuneConfig, report: Report | None = None, stop: threading.Event | None = None) -> Needs:
        """Measure a few training steps of `config`."""
        report = report or _silence
        report(0.0, "Starting the measuring process")
        self._start()
        needs = self._finish(Measure(config.to_dict()), report, stop)
        if not isinstance(needs, Needs):
            raise ValueError("The measurement was stopped.")
        return needs

    def evaluate(
        self,
        models: list[Key],
        wanted: dict[str, Any],
        report: Report | None = None,
        stop: threading.Event | None = None,
    ) -> bool:
        """Measure models, one after the other, as evaluation.measuring.Wanted(**wanted) says; results are kept on disk.

        Whether it came to its end: it may be stopped, and what was answered by then is kept, too.
        """
        return self._to_its_end(Evaluate(models, wanted), report, stop)

    def fold(self, asked: Fold, report: Report | None = None, stop: threading.Event | None = None) -> bool:
        """Judge a run's rows by models that have not seen them; what is done is kept. Whether it came to its end."""
        return self._to_its_end(asked, report, stop)

    def _to_its_end(self, request: Request, report: Report | None, stop: threading.Event | None) -> bool:
        report = report or _silence
        report(0.0, "Starting the process that asks")
        self._start()
        return isinstance(self._finish(request, report, stop), Evaluated)

    def rss_bytes(self) -> int:
        """Memory of the process, 0 when there is none."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(psutil.Error):
                return int(psutil.Process(pid).memory_info().rss)
        return 0

    def unload(self) -> int:
        """End the process, which gives its memory back to the system; how many bytes it held, the GPU's included."""
        process, held = self._process, self.rss_bytes()
        held += self.loaded.device_bytes if self.loaded and held else 0
        if process is not None:
            self._ended = process
            with contextlib.suppress(OSError):  # what was left to send to a process that is gone
                _pipe(process.stdin).close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that holds nothing yet may be deep in an import
                process.wait(_END_SECONDS if self.loaded else _START_SECONDS)
            if process.poll() is None:
                process.kill()
            process.wait()
        self._forget()
        return held

    def _forget(self) -> None:
        self.loaded = None

    def _start(self) -> None:
        # A file, because a pipe that nobody empties would block the process; it goes when it is forgotten.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        # Ctrl-C in the terminal is meant for the app, which ends the process by closing its input.
        command = [sys.executable, "-m", SERVER]
        self._process = spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        thread = threading.Thread(target=self._dispatch, args=(self._process,), name="model-answers", daemon=True)
        thread.start()

    def _dispatch(self, process: Popen) -> None:
        """Hand each answer to who waits for it, and the end of the process to all who wait for this one.

        The next process may have been asked something before the end of this one is noticed.
        """
        for line in _pipe(process.stdout):
            values = json.loads(line)
            with self._lock:
                asked = self._waiting.get(values.pop("id"))
            if asked is not None:
                asked.answers.put(from_json(values))
        process.wait()
        if process is self._process:
            self._forget()
        with self._lock:
            for asked in self._waiting.values():
                if asked.process is process:
                    asked.answers.put(None)

    def _finish(self, request: Request, report: Report, stop: threading.Event | None = None) -> Answer:
        """The last answer to a request; a process whose request failed is not kept."""
        try:
            for answer in self._ask(request, stop):
                if isinstance(answer, Progress):
                    report(answer.fraction, answer.text)
        except ValueError:
            self.unload()
            raise
        return answer

    def _ask(self, request: Request, stop: threading.Event | None = None) -> Iterator[Answer]:
        """Send a request and give its answers as they come. Being closed early stops the request."""
        process, number = self._process, next(self._ids)
        assert process is not None
        answers: queue.Queue[Answer | None] = queue.Queue()
        with self._lock:
            self._waiting[number] = _Asked(process, answers)
        over = asked_to_stop = False
        try:
            self._send(process, number, request)
            while not over:
                if stop is not None and stop.is_set() and not asked_to_stop:
                    self._send(process, number, Stop())
                    asked_to_stop = True
                try:
                    answer = answers.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                over = answer is None or isinstance(answer, LAST)
                if answer is None:
                    raise ValueError(self._last_words(process))
                if isinstance(answer, Failure):
                    raise ValueError(answer.text)
                yield answer
        finally:
            with self._lock:
                del self._waiting[number]
            if not over and process.poll() is None:
                with contextlib.suppress(ValueError):
                    self._send(process, number, Stop())

    def _send(self, process: Popen, number: int, request: Request) -> None:
        line = json.dumps({"id": number, **to_json(request)}).encode() + b"\n"
        try:
            with self._lock:
                _pipe(process.stdin).write(line)
                _pipe(process.stdin).flush()
        except (OSError, ValueError) as error:  # ValueError: unload has closed it
            raise ValueError(self._last_words(process)) from error

    def _last_words(self, process: Popen) -> str:
        """Why the process is gone, as a sentence with its remedy."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        status = process.poll()
        if status == 0 or process is self._ended:
            return "The model was unloaded. Load it again to continue."
        if status is not None and status < 0:
            name = signal.Signals(-status).name
            why = ", most likely because memory ran out" if name == "SIGKILL" else ""
            return (
                f"The model's process was ended from outside ({name}){why}. The app goes on: load the model again, "
                "or a smaller one, or unload the other model first."
            )
        return f"The model's process ended by itself: {self._last_error_line()} Load the model again to continue."

    def _last_error_line(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4000))
        lines = self._errors.read().decode("utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it left no message."


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "_start asks for both pipes"
    return stream


def _silence(fraction: float, text: str) -> None:
    """For callers who do not watch."""
