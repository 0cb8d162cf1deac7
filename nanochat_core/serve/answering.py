"""The thread in which a served model works: requests come from any thread, and their events go back as they happen.

A thread and not a process: without its model a server has nothing to do, so there is nothing that a crash could spare,
and a closed connection reaches the model at once.
"""

import queue
import threading
import traceback
from collections.abc import Callable
from typing import Any

import torch

from nanochat_core.engine.batch import Batch, Failed, RowEvent
from nanochat_core.engine.reply import Done
from nanochat_core.engine.row import Row
from nanochat_core.engine.sampling import Sampling
from nanochat_core.engine.scoring import Scored, score
from nanochat_core.model.gpt import GPT
from nanochat_core.tokenizer.tokenizer import Tokenizer

WAITING_FOR_EACH = 8
"""Requests that may wait for each place in the batch; whoever comes then is told to try again later."""

Listen = Callable[[RowEvent], None]


class Busy(ValueError):
    """So many requests are waiting that another one would wait for long."""


class Closing(ValueError):
    """The server is stopping and takes no more requests."""


class Answering:
    """Lets one model answer many callers. Every accepted request gets Done or Failed as its last event."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, max_batch: int):
        self._batch = Batch(model, tokenizer, max_batch)
        self._most = max_batch * (1 + WAITING_FOR_EACH)
        self._listeners: dict[Row, Listen] = {}
        self._closing = False
        self._lock = threading.Lock()  # of the two above
        self._inbox: queue.SimpleQueue[tuple[Callable[[Any], None], Row | None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def ask(
        self, prompt: list[int], max_tokens: int, sampling: Sampling, stops: tuple[str, ...], listen: Listen
    ) -> Row:
        """Begin a reply; `listen` is called with each of its events, in the model's thread. Raises Busy or Closing."""
        row = self._batch.new_row(prompt, max_tokens, sampling, stops)
        with self._lock:
            if self._closing:
                raise Closing("The server is stopping. Start it again, then repeat the request.")
            if len(self._listeners) >= self._most:
                raise Busy(f"{len(self._listeners)} requests are being answered or waiting already. Try again later.")
            self._listeners[row] = listen
        self._inbox.put((self._begin, row))
        return row

    def score(self, ids: list[int], most: int, listen: Callable[[list[Scored] | Failed], None]) -> None:
        """Have `ids` scored as `scoring.score` does, between two steps; `listen` gets the result in that thread."""
        self._inbox.put((lambda _: listen(self._scored(ids, most)), None))

    def _scored(self, ids: list[int], most: int) -> list[Scored] | Failed:
        try:
            return score(self._batch.model, ids, most)
        except Exception as error:  # noqa: BLE001  whatever it is, the caller is told, and the server goes on
            traceback.print_exception(error)
            torch.cuda.empty_cache()
            return Failed(error)

    def cancel(self, row: Row) -> None:
        """End a reply that nobody waits for any more: it takes no further step, and no event of it comes."""
        with self._lock:
            listening = self._listeners.pop(row, None)
        if listening is not None:
            self._inbox.put((self._batch.remove, row))

    def open_requests(self) -> int:
        """Requests that are being answered or waiting."""
        with self._lock:
            return len(self._listeners)

    @property
    def places(self) -> int:
        """Replies that are written at once."""
        return self._batch.max_rows

    @property
    def is_alive(self) -> bool:
        """Whether requests are taken, and the model's thread is there to answer them."""
        return self._thread.is_alive() and not self._closing

    def close(self, timeout: float) -> bool:
        """End every reply with Closing. Returns whether the model's thread ended within `timeout` seconds."""
        with self._lock:
            self._closing = True
            unfinished = list(self._listeners)
        self._fail(unfinished, Closing("The server was stopped before the reply was complete."))
        self._inbox.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while self._heed_inbox():
            try:
                events = self._batch.step()
            except Exception as error:  # noqa: BLE001  whatever it is, the callers are told, and the server goes on
                self._recover(error)
                continue
            for row, event in events:
                self._tell(row, event)

    def _heed_inbox(self) -> bool:
        """Do what has been asked for meanwhile, and wait where nothing is to be done. False at the end."""
        while self._batch.idle or not self._inbox.empty():
            message = self._inbox.get()
            if message is None:
                return False
            act, row = message
            act(row)
        return True

    def _begin(self, row: Row) -> None:
        with self._lock:
            wanted = row in self._listeners  # it may have failed with the others before it began
        if wanted:
            self._batch.add(row)

    def _tell(self, row: Row, event: RowEvent) -> None:
        with self._lock:
            is_last = isinstance(event, Done | Failed)
            listen = self._listeners.pop(row, None) if is_last else self._listeners.get(row)
        if listen is not None:
            listen(event)

    def _recover(self, error: Exception) -> None:
        """After a failed step: nobody knows what the batch's rows hold, so all of them end."""
        traceback.print_exception(error)
        with self._lock:
            rows = list(self._listeners)
        self._batch.clear()
        torch.cuda.empty_cache()  # does nothing without a GPU
        self._fail(rows, error)

    def _fail(self, rows: list[Row], error: Exception) -> None:
        for row in rows:
            self._tell(row, Failed(error))
