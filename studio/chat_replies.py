"""Having one or two models answer at the same time: a thread for each, looked at a dozen times a second."""

import contextvars
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio import html
from studio.chat_models import key_of, label_of
from studio.chat_state import Chat, Reply, Turn
from studio.model_process import ModelProcesses

TICK_SECONDS = 1 / 14
"""A page applies about a hundred updates a second at most; more than twenty are not seen."""


@dataclass
class _Writer:
    """One side's reply in the making."""

    reply: Reply
    thread: threading.Thread | None = None
    changes: int = 0
    seen: int = -1


@dataclass
class Replies:
    """Answers chats, one at a time each, and knows how to stop them."""

    models: ModelProcesses
    _stops: dict[str, threading.Event] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stop(self, chat_id: str) -> bool:
        """Stop what is being written in a chat; whether anything was."""
        with self._lock:
            stop = self._stops.get(chat_id)
        if stop is not None:
            stop.set()
        return stop is not None

    def wait(self, chat_id: str, seconds: float = 10.0) -> None:
        """Wait until nothing is being written in a chat, but not for long."""
        limit = time.monotonic() + seconds
        while chat_id in self._stops and time.monotonic() < limit:
            time.sleep(TICK_SECONDS)

    def answer(
        self,
        chat: Chat,
        text: str,
        replaced: int | None,
        models: Mapping[int, str | None],
        settings: Mapping[str, Any],
        dtype: str | None = None,
    ) -> Iterator[set[int]]:
        """Add a turn to `chat`, in place of the turn `replaced` and what came after it, and have each side answer.

        Yields the sides that changed, at most so often as is seen, and at last all of them. The chat is saved before
        and after. The models are held in `dtype`. Closing the iterator stops them. ValueError when the chat is being
        answered already.
        """
        stop = self._begin(chat.id)
        writers: dict[int, _Writer] = {}
        try:
            if replaced is not None:
                chat.cut(replaced)
            chat.turns.append(turn := Turn(text))
            for side, value in models.items():
                turn.replies[side] = Reply(label_of(value), facts="Waiting for the model ...")
                writers[side] = _Writer(turn.replies[side])
            chat.save()
            for side, writer in writers.items():
                arguments = (writer, models[side], chat.messages(side), dict(settings), dtype, stop)
                # With the context of the event: ZeroGPU finds there whose quota a reply is counted to.
                run = contextvars.copy_context().run
                arguments = (self._write, *arguments)
                writer.thread = threading.Thread(target=run, args=arguments, name=f"reply-{side}", daemon=True)
                writer.thread.start()
            yield set(writers)
            while alive := [writer for writer in writers.values() if writer.thread.is_alive()]:
                alive[0].thread.join(TICK_SECONDS)
                if changed := _changed(writers):
                    yield changed
            chat.save()
            yield set(writers)
        finally:
            stop.set()
            self._end(chat, writers)

    def _begin(self, chat_id: str) -> threading.Event:
        with self._lock:
            if chat_id in self._stops:
                raise ValueError("A reply is still being written here. Wait for it, or stop it.")
            self._stops[chat_id] = threading.Event()
            return self._stops[chat_id]

    def _end(self, chat: Chat, writers: Mapping[int, _Writer]) -> None:
        """Free the chat once the writers have ended: at once for a stop, but a model may just be loading."""

        def wait() -> None:
            for writer in writers.values():
                if writer.thread is not None:
                    writer.thread.join()
            if abandoned:
                chat.save()
            with self._lock:
                self._stops.pop(chat.id, None)

        abandoned = any(writer.thread is not None and writer.thread.is_alive() for writer in writers.values())
        if abandoned:
            threading.Thread(target=wait, name="reply-end", daemon=True).start()
        else:
            wait()

    def _write(
        self,
        writer: _Writer,
        value: str | None,
        messages: list[dict],
        settings: dict[str, Any],
        dtype: str | None,
        stop: threading.Event,
    ) -> None:
        """Fill a reply. Runs in a thread of its own."""
        reply = writer.reply

        def report(fraction: float, text: str) -> None:
            reply.facts = f"{text} ... {fraction:.0%}"
            writer.changes += 1

        try:
            name, step = key_of(value)
            self.models.load(name, step, report, dtype)
            reply.facts = "Writing ..."
            writer.changes += 1
            for event in self.models.generate(name, step, messages, stop, **settings):
                reply.add(event)
                writer.changes += 1
        except ValueError as error:
            reply.failed, reply.facts = str(error), ""
        writer.changes += 1


def status(reply: Reply | None) -> str:
    """The line under a side: where its last reply is, or how it went."""
    if reply is None:
        return ""
    lines = [html.note(reply.notice, "warn")] if reply.notice else []
    said = " · ".join(part for part in (reply.model, reply.facts) if part)
    return "".join([*lines, f'<p class="chat-facts" role="status">{html.escape(said)}</p>'])


def _changed(writers: Mapping[int, _Writer]) -> set[int]:
    found = {side for side, writer in writers.items() if writer.changes != writer.seen}
    for side in found:
        writers[side].seen = writers[side].changes
    return found
