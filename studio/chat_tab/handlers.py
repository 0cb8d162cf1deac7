"""What happens in the Chat tab: plain functions from the values of its fields to what it shows next."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import Any

import gradio as gr

from nanochat_core.system.words import whole
from studio.chat_tab import precision as chat_precision
from studio.chat_tab.models import Update, choices, defaults, has_tuned, present_or_default
from studio.chat_tab.replies import Replies, status
from studio.chat_tab.settings import SETTINGS, ChatSettings, chat_code
from studio.chat_tab.state import SIDES, Chat
from studio.models.zero_gpu import Models
from studio.parts import html
from studio.parts.events import another, update_of
from studio.space import visitor_limits
from studio.space.access import for_visitors, is_visitor

STREAM = (
    "bot_0",
    "facts_0",
    "bot_1",
    "facts_1",
    "taken",
    "send",
    "stop",
    "said",
    "editing",
    "seed",
    "code",
    "chat_id",
    "picked",
)
"""What a reply changes, in the order of the outputs."""


class ChatHandlers:
    """Holds the models' processes and the replies in the making; everything else comes in and goes out.

    ValueError in a sentence for what cannot be done; studio.parts.events shows it.
    """

    def __init__(self, models: Models):
        self.models = models
        self.replies = Replies(models)

    # Writing

    @for_visitors
    def send(self, chat_id: str, text: str, editing: int | None, *form: Any) -> Iterator[tuple[Update, ...]]:
        """Answer a message; one that replaces an earlier one takes away what came after that."""
        text = whole(text or "", "")
        chat, taken = Chat.load(chat_id or Chat.new_id()), json.dumps([another(), text])
        if editing is not None and editing >= len(chat.turns):
            editing = None  # another window has cleared the chat: there is nothing to replace
        yield from self._answer(chat, text.strip(), editing, ChatSettings(*form), taken=taken)

    @for_visitors
    def retry(self, chat_id: str, *form: Any) -> Iterator[tuple[Update, ...]]:
        """Answer the last message again, with the next seed: the same one would give the same reply."""
        chat = Chat.load(chat_id or Chat.new_id())
        if not chat.turns:
            raise ValueError("There is no message to answer again yet. Write one.")
        settings = ChatSettings(*form)
        settings = replace(settings, seed=int(settings.seed or 0) + 1)
        yield from self._answer(chat, chat.turns[-1].user, len(chat.turns) - 1, settings)

    def _answer(
        self, chat: Chat, text: str, replaced: int | None, settings: ChatSettings, **shown: Update
    ) -> Iterator[tuple[Update, ...]]:
        """The whole stream of updates, the first with `shown`. ValueError before it, where no reply can be begun."""
        try:
            yield from self._answered(chat, text, replaced, settings, shown)
        except ValueError:
            if not self.replies.is_answering(chat.id, text):
                raise
            yield _stream()  # the second click of two, before or after the first one has emptied the box

    def _answered(
        self, chat: Chat, text: str, replaced: int | None, settings: ChatSettings, shown: dict[str, Update]
    ) -> Iterator[tuple[Update, ...]]:
        if not text:
            raise ValueError("Write a message first.")
        with self._place(chat):
            dtype = chat_precision.dtype_of(settings.precision)
            answers = self.replies.answer(chat, text, replaced, settings.models(), settings.sampling(), dtype)
            chat.settings = asdict(settings)
            first = next(answers)
            shown |= {"said": "", "editing": None, "picked": None, "seed": settings.seed, "chat_id": chat.id}
            yield _stream(**shown, **_sides(chat, first), **_buttons(is_writing=True))
            yield from self._shown(chat, answers, settings)

    def _place(self, chat: Chat) -> AbstractContextManager[None]:
        """Room for one more reply, which only visitors of a Space have to share. ValueError when there is none."""
        if not is_visitor():
            return nullcontext()
        visitor_limits.check_turns(len(chat.turns))
        return visitor_limits.place()

    def _shown(self, chat: Chat, answers: Iterator[set[int]], settings: ChatSettings) -> Iterator[tuple[Update, ...]]:
        """What is being written, to its end."""
        for changed in answers:
            yield _stream(**_sides(chat, changed))
        shown = {"said": "", "code": chat_code(chat, settings), **_buttons(is_writing=False)}
        yield _stream(**shown, **_sides(chat, SIDES))

    @for_visitors
    def follow(self, chat_id: str, *form: Any) -> Iterator[tuple[Update, ...]]:
        """What another page had begun, such as this one before it was reloaded, until it is over."""
        chat, answers = self.replies.chat(chat_id), self.replies.follow(chat_id)
        first = next(answers, None)
        if first is None:  # also what came to its end after this page was restored
            yield _stream(**_sides(chat, SIDES))
            return
        yield _stream(**_sides(chat, first), **_buttons(is_writing=True))
        yield from self._shown(chat, answers, ChatSettings(*form))

    @for_visitors
    def stop(self, chat_id: str) -> str:
        """Stop the reply in the making; the generator that shows it ends by itself then."""
        return html.note("Stopping ...") if self.replies.stop(chat_id) else ""

    # Going back

    @for_visitors
    def restore(self, chat_id: str, *form: Any) -> tuple[Update, ...]:
        """(id, chatbots and lines of both sides, SETTINGS) for a page that is opened, with what was chosen last."""
        chat = self.replies.chat(chat_id) if chat_id else Chat(Chat.new_id())
        present = asdict(ChatSettings(*form))
        values = {**present, **chat.settings}
        if not chat.turns and has_tuned():  # nothing said yet: with the newest run beside what it was trained from
            values["model_0"], values["model_1"], values["both"] = *defaults(), True
        values["model_0"], values["model_1"] = present_or_default(values["model_0"], values["model_1"])
        values["precision"] = chat_precision.offered(values["precision"])
        menu = {"choices": choices()}
        updates = [
            update_of(present[name], values[name], **(menu if name.startswith("model_") else {})) for name in SETTINGS
        ]
        return chat.id, *_all_sides(chat), *updates

    @for_visitors
    def clear(self, chat_id: str) -> tuple[Update, ...]:
        """Start over; the old chat is deleted. (said, editing, picked, box, chatbots and lines of both sides)."""
        self.replies.stop(chat_id)
        chat = self.replies.chat(chat_id or Chat.new_id())
        chat.turns.clear()  # also of the chat in which a reply is just being stopped and will be saved
        chat.save()
        return "", None, None, "", *_all_sides(chat)

    @for_visitors
    def edit(self, chat_id: str, picked: int | None) -> tuple[Update, Update, Update]:
        """(box, turn being edited, said): the picked or last message in the box, to be changed and sent again.

        ValueError when there is none.
        """
        chat = Chat.load(chat_id)
        turn = len(chat.turns) - 1 if picked is None or picked >= len(chat.turns) else picked
        if turn < 0:
            raise ValueError("There is no message to edit yet. Write one.")
        later = len(chat.turns) - turn - 1
        rest = f" and what came after it ({later} more message{'s' if later > 1 else ''})" if later else ""
        return chat.turns[turn].user, turn, html.note(f"Sending it replaces message {turn + 1}{rest}.")

    @for_visitors
    def code(self, chat_id: str, *form: Any) -> str:
        """The nanochat_core calls that give the same replies."""
        return chat_code(Chat.load(chat_id or Chat.new_id()), ChatSettings(*form))


@for_visitors
def pick(chat_id: str, side: int, index: int) -> tuple[int | None, str]:
    """(turn, said) of a message that was clicked on."""
    try:
        turn = Chat.load(chat_id).turn_at(side, index)
    except ValueError:  # a click on what is only just being written
        return None, ""
    return turn, html.note(f"Message {turn + 1} is picked: edit it, or correct the reply to it.")


def _stream(**updates: Update) -> tuple[Update, ...]:
    assert updates.keys() <= set(STREAM)
    return tuple(updates.get(name, gr.skip()) for name in STREAM)


def _buttons(is_writing: bool) -> dict[str, Update]:
    return {"send": gr.Button(visible=not is_writing), "stop": gr.Button(visible=is_writing)}


def _sides(chat: Chat, sides: Any) -> dict[str, Update]:
    found: dict[str, Update] = {}
    for side in sides:
        reply = chat.turns[-1].replies[side] if chat.turns else None
        found |= {f"bot_{side}": chat.shown(side), f"facts_{side}": status(reply)}
    return found


def _all_sides(chat: Chat) -> tuple[Update, ...]:
    return tuple(_sides(chat, SIDES).values())
