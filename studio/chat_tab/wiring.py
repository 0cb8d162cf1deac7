"""Which event of the Chat tab calls which handler, and what it changes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from studio.chat_tab import correct, taught
from studio.chat_tab.fields import ChatFields
from studio.chat_tab.handlers import ChatHandlers, pick
from studio.chat_tab.models import ModelHandlers
from studio.context import Context
from studio.parts.events import AT_ONCE, LATEST, QUIET, UNLIMITED, noted
from studio.space.access import for_visitors

_OWN_ID = """(id, ...rest) => {
    const key = 'nanochat-studio-chat'
    const hex = (byte) => byte.toString(16).padStart(2, '0')
    const make = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), hex).join('')
    try {
        window.chatId ??= localStorage.getItem(key) || make()
        localStorage.setItem(key, window.chatId)
    } catch {  // a browser that keeps nothing for a page inside another site's
        window.chatId ??= make()
    }
    return [window.chatId, ...rest]
}"""
"""The browser's chat, known before the server has answered: what is sent at once belongs to it, too."""

_IS_OPEN = """(_, ...rest) => {
    const tab = document.getElementById('chat_tab-button')
    return [!tab || tab.getAttribute('aria-selected') === 'true', ...rest]
}"""
"""Puts before the other inputs whether the tab is the one that is seen."""

_DRAFT = """(box) => {
    const key = 'nanochat-studio-draft'
    let kept = ''
    try {
        kept = sessionStorage.getItem(key) ?? ''
    } catch {}  // a browser that keeps nothing for a page inside another site's
    addEventListener('pagehide', () => {
        const field = document.querySelector('#chat_box textarea')  // not there before the tab is opened
        sessionStorage.setItem(key, field ? field.value : kept)
    })
    return box || kept
}"""
"""What was not sent yet is there again when the page is loaded again, as gradio does by itself after a restart."""

_TAKE = """(taken, box) => {
    const text = taken ? JSON.parse(taken)[1] : ''
    const whole = box.replace(/\\p{Surrogate}/gu, '')  // half an emoji does not reach the app
    return whole.startsWith(text) ? whole.slice(text.length).trimStart() : box
}"""
"""Takes the message that is being answered out of the box, in the browser: what was typed behind it by then stays."""

_FOCUS_BOX = "() => document.querySelector('#chat_box textarea').focus()"
_FOCUS_CORRECTION = "() => document.querySelector('#chat_corrected textarea')?.focus()"


def wire(fields: ChatFields, context: Context) -> None:
    """Connect everything."""
    handlers, models = ChatHandlers(context.models), ModelHandlers(context.models)
    restored = _wire_page(fields, handlers, models, context)
    answered = _wire_writing(fields, handlers, models)
    for number, side in enumerate(fields.sides):
        picked = side.bot.select(_picker(number), fields.chat_id, [fields.picked, fields.said], **QUIET)
        after = [event.then for event in (restored, picked, *answered)]
        taught.wire(side.taught, number, [fields.chat_id, fields.picked], after, context)
    _wire_models(fields, models, context)
    _wire_correction(fields, context)


def _wire_page(fields: ChatFields, handlers: ChatHandlers, models: ModelHandlers, context: Context) -> Any:
    """Returns the event after which the chat is as it was left."""
    settings = fields.settings
    restored = context.page.load(
        handlers.restore, fields.known, [fields.chat_id, *fields.shown, *settings.all], js=_OWN_ID, **QUIET
    )
    restored.then(None, fields.writing.box, fields.writing.box, js=_DRAFT, **QUIET)
    restored.then(handlers.follow, fields.known, fields.stream, **UNLIMITED)
    restored.then(handlers.code, fields.known, fields.code, **QUIET)
    for side in fields.sides:
        restored.then(noted(models.about, side.about), side.model, side.about, **QUIET)
    _wire_warming(restored, fields, models)
    second = fields.sides[1]
    settings.both.change(lambda both: gr.Column(visible=both), settings.both, second.column, **QUIET)
    gr.on([component.change for component in settings.all], handlers.code, fields.known, fields.code, **LATEST)
    return restored


def _wire_writing(fields: ChatFields, handlers: ChatHandlers, models: ModelHandlers) -> list[Any]:
    """Returns the events after which there is another reply, or none."""
    writing, said = fields.writing, fields.said
    # Gradio would drop a click, and say nothing, until an answer that is there has come to its very end.
    stream: dict[str, Any] = {"outputs": fields.stream, "js": _OWN_ID, **UNLIMITED, "trigger_mode": "multiple"}
    message = [fields.chat_id, writing.box, fields.editing, *fields.settings.all]
    sent = gr.on([writing.send.click, writing.box.submit], noted(handlers.send, said), message, **stream)
    for side in fields.sides:
        sent = sent.then(noted(models.about, side.about), side.model, side.about, **QUIET)
    writing.taken.change(None, [writing.taken, writing.box], writing.box, js=_TAKE, **QUIET)
    retried = writing.retry.click(noted(handlers.retry, said), fields.known, **stream)
    writing.stop.click(handlers.stop, fields.chat_id, said, **AT_ONCE)
    cleared = gr.on(
        [writing.clear.click, *(side.bot.clear for side in fields.sides)],
        noted(handlers.clear, said),
        fields.chat_id,
        [said, fields.editing, fields.picked, writing.box, *fields.shown],
        **QUIET,
    )
    edited = [writing.box, fields.editing, said]
    writing.edit.click(noted(handlers.edit, said), [fields.chat_id, fields.picked], edited, **QUIET).then(
        None, None, None, js=_FOCUS_BOX
    )
    return [sent, retried, cleared]


def _picker(side: int) -> Callable[[str, gr.SelectData], tuple[int | None, str]]:
    """A function of its own for each side: gradio looks at its signature for the click."""

    @for_visitors
    def picked(chat_id: str, event: gr.SelectData) -> tuple[int | None, str]:
        return pick(chat_id, side, event.index)

    return picked


def _wire_models(fields: ChatFields, models: ModelHandlers, context: Context) -> None:
    chosen, lines = [side.model for side in fields.sides], [side.about for side in fields.sides]
    opened = context.tab.select(models.lists, chosen, [*chosen, *lines], **QUIET)
    _wire_warming(opened, fields, models)
    wished = context.to_chat.change(
        models.wished, [context.to_chat, fields.settings.both, *chosen], [fields.settings.both, *chosen], **QUIET
    )
    wished.success(lambda: gr.Tabs(selected="chat"), None, context.tabs, **QUIET)  # which loads what was chosen
    for side in fields.sides:
        line = side.about
        side.model.change(noted(models.about, line), side.model, line, **QUIET)
        loading = side.load.click(noted(models.load, line), [side.model, fields.settings.precision], line, **UNLIMITED)
        side.model.input(None, None, None, cancels=loading)  # its line is the other model's now
        side.unload.click(noted(models.unload, line), side.model, line, **QUIET)


def _wire_warming(after: Any, fields: ChatFields, models: ModelHandlers) -> None:
    """One model after the other, so that the second one's room is looked at when the first one has its own."""
    settings, shown = fields.settings, (gr.State(value=True), fields.settings.both)
    for is_shown, side in zip(shown, fields.sides, strict=True):
        inputs = [fields.is_open, fields.chat_id, is_shown, side.model, settings.precision]
        after = after.then(noted(models.warm, side.about), inputs, side.about, js=_IS_OPEN, **UNLIMITED)
        side.model.input(None, None, None, cancels=after)  # not change: the page itself sets what is loaded here


def _wire_correction(fields: ChatFields, context: Context) -> None:
    part = fields.correction
    opened = [part.panel, part.title, part.text, part.which, part.dataset, part.earlier, part.added]
    for number, side in enumerate(fields.sides):
        inputs = [fields.chat_id, gr.State(number), fields.picked, context.dataset]
        side.correct.click(noted(correct.begin, part.added), inputs, opened, **QUIET).then(
            None, None, None, js=_FOCUS_CORRECTION
        )
    part.add.click(
        noted(correct.finish, part.added),
        [fields.chat_id, part.which, part.text, part.dataset, part.earlier],
        [part.panel, part.added, context.dataset],
        **QUIET,
    )
    part.cancel.click(partial(gr.Column, visible=False), None, part.panel, **QUIET)
