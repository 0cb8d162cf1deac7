"""Having one or two models answer at the same time: a thread for each, looked at a dozen times a second."""

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from studio.chat_tab.shelf import shelf
from studio.chat_tab.state import Chat, Reply, Turn
from studio.models.choices import key_of, label_of
from studio.models.zero_gpu import Models
from studio.parts import html

TICK_SECONDS = 1 / 14
"""A page applies about a hundred updates a second at most; more than twenty are not seen."""


@dataclass
class _Writer:
    """One side's reply in the making."""

    reply: Reply
    thread: threading.Thread = field(default_factory=threading.Thread)
    """Not alive before the chat is saved and it is replaced by the one that writes."""
    changes: int = 0


@dataclass(frozen=True)
class _Answer:
    """A turn in the making."""

    chat: Chat
    text: str
    """The message that is answered."""
    writers: dict[int, _Writer]
    stop: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    """Nothing is written any more, and what was is saved."""


@dataclass
class Replies:
    """Answers chats, one at a time each, and knows how to stop them."""

    models: Models
    _answers: dict[str, _Answer] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def chat(self, chat_id: str) -> Chat:
        """The chat with what is being written in it now; else as it was saved, empty when it never was."""
        answer = self._answer_in(chat_id)
        return answer.chat if answer else Chat.load(chat_id)

    def is_answering(self, chat_id: str, text: str) -> bool:
        """Whether this message, or with an empty one any, is being answered in a chat."""
        answer = self._answer_in(chat_id)
        return answer is not None and text in ("", answer.text)

    def stop(self, chat_id: str) -> bool:
        """Stop what is being written in a chat; whether anything was."""
        answer = self._answer_in(chat_id)
        if answer is not None:
            answer.stop.set()
        return answer is not None

    def follow(self, chat_id: str) -> Iterator[set[int]]:
        """What is being written in a chat, for a page that did not ask for it; nothing when nothing is.

        Yields as `answer` does. Closing the iterator stops nothing.
        """
        answer = self._answer_in(chat_id)
        if answer is not None:
            yield from _changed(answer.writers, lambda: answer.over.wait(TICK_SECONDS))
            yield set(answer.writers)

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
        if replaced is not None:
            chat.cut(replaced)
        chat.turns.append(turn := Turn(text))
        replies = {side: Reply(label_of(value), facts="Waiting for the model ...") for side, value in models.items()}
        for side, reply in replies.items():
            turn.replies[side] = reply
        answer = self._begin(chat, text, {side: _Writer(reply) for side, reply in replies.items()})
        try:
            chat.save()
            for side, writer in answer.writers.items():
                write = partial(
                    self._write, writer, models[side], chat.messages(side), dict(settings), dtype, answer.stop
                )
                # With the context of the event: ZeroGPU finds there whose quota a reply is counted to.
                run = partial(contextvars.copy_context().run, write)
                writer.thread = threading.Thread(target=run, name=f"reply-{side}", daemon=True)
                writer.thread.start()
            yield from _changed(answer.writers, lambda: _written(answer.writers))
            chat.save()
            yield set(answer.writers)
        finally:
            answer.stop.set()
            self._end(answer)

    def _answer_in(self, chat_id: str) -> _Answer | None:
        """What is being written in a chat of who acts now: a visitor cannot reach the owner's, nor the owner theirs."""
        with self._lock:
            answer = self._answers.get(chat_id)
        return answer if answer and answer.chat.shelf is shelf() else None

    def _begin(self, chat: Chat, text: str, writers: dict[int, _Writer]) -> _Answer:
        with self._lock:
            if chat.id in self._answers:
                raise ValueError("A reply is still being written here. Wait for it, or stop it.")
            self._answers[chat.id] = answer = _Answer(chat, text, writers)
            return answer

    def _end(self, answer: _Answer) -> None:
        """Free the chat once the writers have ended: at once for a stop, but a model may just be loading."""
        threads = [writer.thread for writer in answer.writers.values() if writer.thread.ident is not None]
        is_abandoned = any(thread.is_alive() for thread in threads)

        def wait() -> None:
            for thread in threads:
                thread.join()
            if is_abandoned:
                answer.chat.save()
            with self._lock:
                del self._answers[answer.chat.id]
            answer.over.set()

        if is_abandoned:
            threading.Thread(target=wait, name="reply-end", daemon=True).start()
        else:
            wait()

    def _write(
        self,
        writer: _Writer,
        value: str | None,
        messages: list[dict[str, Any]],
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
            with self.models.held(name, step, report, dtype):
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


def _changed(writers: Mapping[int, _Writer], is_over: Callable[[], bool]) -> Iterator[set[int]]:
    """The sides that changed each time that `is_over`, which waits a tick at most, says that it is not over yet."""
    seen = dict.fromkeys(writers, -1)
    yield set(writers)
    while not is_over():
        present = {side: writer.changes for side, writer in writers.items()}
        if changed := {side for side in writers if present[side] != seen[side]}:
            yield changed
        seen = present


def _written(writers: Mapping[int, _Writer]) -> bool:
    """Whether all have ended. Waits for one of those that have not, a tick at most."""
    alive = [writer.thread for writer in writers.values() if writer.thread.is_alive()]
    if alive:
        alive[0].join(TICK_SECONDS)
    return not alive
