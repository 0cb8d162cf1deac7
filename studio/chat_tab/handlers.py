"""What happens in the Chat tab: plain functions from the values of its fields to what it shows next."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import gradio as gr

from studio.chat_tab import correct as chat_correct
from studio.chat_tab import precision as chat_precision
from studio.chat_tab.code import chat_code
from studio.chat_tab.models import choices, defaults, key_of
from studio.chat_tab.replies import Replies, status
from studio.chat_tab.state import SIDES, Chat
from studio.models.processes import AUTOMATIC, ModelProcesses
from studio.parts import html
from studio.parts.working import Working
from studio.space import visitor_limits
from studio.space.access import for_visitors, is_visitor

Update = Any
"""A value for a component, gr.update(...) or gr.skip()."""

STREAM = (
    "bot_0",
    "facts_0",
    "bot_1",
    "facts_1",
    "box",
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

SETTINGS = ("both", "model_0", "model_1", "system", "temperature", "top_k", "max_tokens", "precision", "seed")
"""What a reply needs to know, in the order of the inputs; the seed comes last."""

TOOL_INFO = (
    "<|python_start|> and <|python_end|> frame what the calculator is asked, "
    "<|output_start|> and <|output_end|> what it says."
)


class ChatHandlers:
    """Holds the models' processes and the replies in the making; everything else comes in and goes out."""

    def __init__(self, models: ModelProcesses):
        self.models = models
        self.replies = Replies(models)

    # Writing

    @for_visitors
    def send(self, chat_id: str, text: str, editing: int | None, *settings: Any) -> Iterator[tuple[Update, ...]]:
        """Answer a message; one that replaces an earlier one takes away what came after that."""
        if not (text or "").strip():
            yield _stream(said=html.note("Write a message first.", "warn"))
            return
        chat = Chat.load(chat_id or Chat.new_id())
        yield from self._answer(chat, text.strip(), editing, settings)

    @for_visitors
    def retry(self, chat_id: str, *settings: Any) -> Iterator[tuple[Update, ...]]:
        """Answer the last message again, with the next seed: the same one would give the same reply."""
        chat = Chat.load(chat_id or Chat.new_id())
        if not chat.turns:
            yield _stream(said=html.note("There is no message to answer again yet. Write one.", "warn"))
            return
        settings = (*settings[:-1], int(settings[-1] or 0) + 1)
        yield from self._answer(chat, chat.turns[-1].user, len(chat.turns) - 1, settings)

    def _answer(self, chat: Chat, text: str, replaced: int | None, settings: tuple) -> Iterator[tuple[Update, ...]]:
        try:
            with self._place(chat):
                yield from self._answered(chat, text, replaced, settings)
        except ValueError as error:
            yield _stream(said=html.note(str(error), "bad"), box=text)

    def _place(self, chat: Chat) -> AbstractContextManager[None]:
        """Room for one more reply, which only visitors of a Space have to share. ValueError when there is none."""
        if not is_visitor():
            return nullcontext()
        visitor_limits.check_turns(len(chat.turns))
        return visitor_limits.place()

    def _answered(self, chat: Chat, text: str, replaced: int | None, settings: tuple) -> Iterator[tuple[Update, ...]]:
        values = dict(zip(SETTINGS, settings, strict=True))
        models = {side: values[f"model_{side}"] for side in SIDES if side == 0 or values["both"]}
        sampling, dtype = _sampling(values), chat_precision.dtype_of(values["precision"])
        chat.settings = values
        answers = self.replies.answer(chat, text, replaced, models, sampling, dtype)
        shown = {"box": "", "said": "", "editing": None, "picked": None, "seed": values["seed"], "chat_id": chat.id}
        yield _stream(**shown, **_sides(chat, next(answers)), **_buttons(is_writing=True))
        yield from self._shown(chat, answers, settings)

    def _shown(self, chat: Chat, answers: Iterator[set[int]], settings: tuple) -> Iterator[tuple[Update, ...]]:
        """What is being written, to its end."""
        for changed in answers:
            yield _stream(**_sides(chat, changed))
        shown = {"said": "", "code": self.code(chat.id, *settings), **_buttons(is_writing=False)}
        yield _stream(**shown, **_sides(chat, SIDES))

    @for_visitors
    def follow(self, chat_id: str, *settings: Any) -> Iterator[tuple[Update, ...]]:
        """What another page had begun, such as this one before it was reloaded, until it is over."""
        chat, answers = self.replies.chat(chat_id), self.replies.follow(chat_id)
        first = next(answers, None)
        if first is None:  # also what came to its end after this page was restored
            yield _stream(**_sides(chat, SIDES))
            return
        yield _stream(**_sides(chat, first), **_buttons(is_writing=True))
        yield from self._shown(chat, answers, settings)

    @for_visitors
    def stop(self, chat_id: str) -> str:
        """Stop the reply in the making; the generator that shows it ends by itself then."""
        return html.note("Stopping ...") if self.replies.stop(chat_id) else ""

    # Going back

    @for_visitors
    def restore(self, chat_id: str, *settings: Any) -> tuple[Update, ...]:
        """(id, chatbots and lines of both sides, SETTINGS) for a page that is opened, with what was chosen last."""
        chat = self.replies.chat(chat_id) if chat_id else Chat(Chat.new_id())
        present = dict(zip(SETTINGS, settings, strict=True))
        values = {**present, **chat.settings}
        values["model_0"], values["model_1"] = self._there(values["model_0"], values["model_1"])
        values["precision"] = chat_precision.offered(values["precision"])
        menu = {"choices": choices()}
        updates = [
            _update(present[name], values[name], **(menu if name.startswith("model_") else {})) for name in SETTINGS
        ]
        return chat.id, *_all_sides(chat), *updates

    @for_visitors
    def clear(self, chat_id: str) -> tuple[Update, ...]:
        """Begin anew; the old chat is deleted. (said, editing, picked, box, chatbots and lines of both sides)."""
        self.replies.stop(chat_id)
        chat = self.replies.chat(chat_id or Chat.new_id())
        chat.turns.clear()  # also of the chat in which a reply is just being stopped and will be saved
        chat.save()
        return "", None, None, "", *_all_sides(chat)

    @for_visitors
    def edit(self, chat_id: str, picked: int | None) -> tuple[Update, Update, Update]:
        """(box, turn being edited, said): the picked or last message in the box, to be changed and sent again."""
        chat = Chat.load(chat_id)
        turn = len(chat.turns) - 1 if picked is None or picked >= len(chat.turns) else picked
        if turn < 0:
            return gr.skip(), None, html.note("There is no message to edit yet. Write one.", "warn")
        later = len(chat.turns) - turn - 1
        rest = f" and what came after it ({later} more message{'s' if later > 1 else ''})" if later else ""
        return chat.turns[turn].user, turn, html.note(f"Sending it replaces message {turn + 1}{rest}.")

    # Models

    @for_visitors
    def lists(self, first: str | None, second: str | None) -> tuple[Update, ...]:
        """Fresh choices of models, what is gone replaced; then the lines about both."""
        values = self._there(first, second)
        menus = [_update(was, value, choices=choices()) for was, value in zip((first, second), values)]
        return *menus, *(self.about(value) for value in values)

    def _there(self, *chosen: str | None) -> list[str | None]:
        """The chosen models, with others in place of those that are not there."""
        return [value if _is_there(value) else other for value, other in zip(chosen, defaults())]

    @for_visitors
    def about(self, value: str | None, said: str = "") -> str:
        """The line under a model's name: whether it is in memory, and what it is."""
        try:
            key = key_of(value)
        except ValueError as error:
            return html.note(str(error), "bad")
        loaded = next((model for model in self.models.loaded() if model.key == key), None)
        if loaded is None:
            text = said or "Not in memory; it is loaded with your first message."
        else:
            held = html.size(self.models.rss_bytes(*key) + loaded.device_bytes)
            text = (
                f"In memory: {loaded.parameters:,} parameters, {loaded.device}, {loaded.dtype}, "
                f"context of {loaded.context:,} tokens, {held}."
            )
        return f'<p class="chat-facts" role="status">{html.escape(text)}</p>'

    @for_visitors
    def load(self, value: str | None, precision: str | None = None) -> Iterator[str]:
        """Load a model, showing how far it is."""
        loading = Working(lambda report: self.models.load(*key_of(value), report, chat_precision.dtype_of(precision)))
        yield from loading
        try:
            loading.result()
        except ValueError as error:
            yield html.note(str(error), "bad")
            return
        yield self.about(value)

    def unload(self, value: str | None) -> str:
        """End the model's process, and say what that gave back."""
        try:
            freed = self.models.unload(*key_of(value))
        except ValueError as error:
            return html.note(str(error), "bad")
        return self.about(value, f"Unloaded: {html.size(freed)} given back." if freed else "It was not in memory.")

    @for_visitors
    def code(self, chat_id: str, *settings: Any) -> str:
        """The nanochat_core calls that give the same replies."""
        values = dict(zip(SETTINGS, settings, strict=True))
        models = [values["model_0"], values["model_1"]][: 2 if values["both"] else 1]
        precision = values["precision"]
        dtype = None if precision == AUTOMATIC else precision
        return chat_code(Chat.load(chat_id or Chat.new_id()), models, _numbers(values), dtype)

    # Correcting

    def correct(self, chat_id: str, side: int, picked: int | None, dataset: str) -> tuple[Update, ...]:
        """(panel, title, text, which reply, datasets, earlier turns, said) for the picked or last reply of a side."""
        chat = Chat.load(chat_id)
        turn = len(chat.turns) - 1 if picked is None or picked >= len(chat.turns) else picked
        reply = chat.turns[turn].replies[side] if turn >= 0 else None
        if reply is None:
            said = html.note("There is no reply to correct yet. Ask something first.", "warn")
            return gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip(), said
        title = html.lead(f"What {reply.model} should have said to: {_short(chat.turns[turn].user)}")
        menu = gr.Dropdown(choices=chat_correct.dataset_choices(), value=chat_correct.default_dataset(dataset))
        earlier = gr.Checkbox(visible=turn > 0, value=turn > 0)
        text, info = chat_correct.as_text(reply.content), None if isinstance(reply.content, str) else TOOL_INFO
        box = gr.Textbox(value=text, info=info)
        return gr.Column(visible=True), title, box, [side, turn], menu, earlier, ""

    def add(self, chat_id: str, which: list[int], text: str, dataset: str, earlier: bool) -> tuple[Update, ...]:
        """(panel, said, dataset): append the corrected conversation to a dataset."""
        try:
            conversation = chat_correct.corrected(Chat.load(chat_id), *which, text, earlier)
            path, line = chat_correct.add(dataset, conversation)
        except ValueError as error:
            return gr.skip(), html.note(str(error), "bad"), gr.skip()
        said = html.note(
            f"Added to {path.name} as line {line:,}. Open it in Data to see it, or train on it in Train.", "good"
        )
        return gr.Column(visible=False), said, str(path)


@for_visitors
def pick(chat_id: str, side: int, index: int) -> tuple[int | None, str]:
    """(turn, said) of a message that was clicked on."""
    try:
        turn = Chat.load(chat_id).turn_at(side, index)
    except ValueError:  # a click on what is only just being written
        return None, ""
    return turn, html.note(f"Message {turn + 1} is picked: edit it, or correct the reply to it.")


def _is_there(value: str | None) -> bool:
    """Whether a choice, or a NAME that was typed, is a model that can be loaded."""
    try:
        return bool(key_of(value))
    except ValueError:
        return False


def _update(present: Any, value: Any, **more: Any) -> Update:
    """A field's new value. One that stays is not sent: by the time it came, something else may have been chosen."""
    return gr.update(**more) if value == present else gr.update(value=value, **more)


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


def _sampling(values: dict[str, Any]) -> dict[str, Any]:
    """Settings for the model's process. ValueError for an empty field."""
    for name in ("temperature", "top_k", "max_tokens", "seed"):
        if values[name] is None:
            raise ValueError(f"The setting {name} is empty. Give a number.")
    return _numbers(values)


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    whole = {name: int(values[name] or 0) for name in ("max_tokens", "top_k", "seed")}
    return {"max_tokens": whole["max_tokens"], "temperature": float(values["temperature"] or 0), **whole}


def _short(text: str, most: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
