"""The Chat tab: talk to one model, or to two side by side, and turn a bad answer into a training row."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import gradio as gr

from studio.chat_tab import precision
from studio.chat_tab.handlers import SETTINGS, STREAM, ChatHandlers, pick
from studio.chat_tab.models import choices, defaults
from studio.chat_tab.state import SIDES
from studio.context import Context
from studio.models.processes import AUTOMATIC
from studio.models.zero_gpu import is_zero_gpu
from studio.parts import html
from studio.parts.showcode import show_code
from studio.space.access import for_visitors

QUIET = {"api_visibility": "private", "show_progress": "hidden"}
LETTERS = ("A", "B")
FOR_OWNER = "for-owner"
"""Class of what the visitors of a Space do not see; they could not use it either."""
LEAD = (
    "Ask one model, or two the same: the base beside what you taught it. "
    "Where a reply is bad, write what it should have been and add it to your data."
)
_BUTTON = {"size": "sm", "scale": 0, "min_width": 84}

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


def build(context: Context) -> None:
    """Lay the tab out and wire it."""
    fields = SimpleNamespace()
    gr.HTML(html.lead(LEAD))
    # A field and not a BrowserState, which is not read before its tab has been opened.
    fields.chat_id = gr.Textbox(visible=False, elem_id="chat_id")
    fields.editing, fields.picked, fields.which = gr.State(None), gr.State(None), gr.State([0, 0])
    fields.both = gr.Checkbox(
        value=False, label="Two models side by side", elem_id="chat_both", container=False, elem_classes=FOR_OWNER
    )
    with gr.Row(equal_height=False, elem_id="chat_sides"):
        for side, value in zip(SIDES, defaults()):
            _build_side(fields, side, value)
    fields.said = gr.HTML(elem_id="chat_said", padding=False)
    _build_correction(fields)
    _build_writing(fields)
    _build_settings(fields)
    fields.code = show_code("chat_code")
    _wire(fields, ChatHandlers(context.models), context)


def _build_side(fields: SimpleNamespace, side: int, value: str | None) -> None:
    """One model and what it says."""
    with gr.Column(visible=side == 0, min_width=300, elem_id=f"chat_side_{side}") as column:
        with gr.Row(elem_classes="chat-model"):
            model = gr.Dropdown(
                choices(),
                value=value,
                label="Model" if side == 0 else "Model beside it",
                elem_id=f"chat_model_{side}",
                allow_custom_value=True,  # a folder with a model, too
                min_width=130,
            )
            owners = {**_BUTTON, "elem_classes": FOR_OWNER}
            load = gr.Button("Load", elem_id=f"chat_load_{side}", **{**owners, "min_width": 60})
            unload = gr.Button("Unload", elem_id=f"chat_unload_{side}", **{**owners, "min_width": 70})
        about = gr.HTML(elem_id=f"chat_about_{side}", padding=False)
        bot = gr.Chatbot(
            label=f"Replies of model {LETTERS[side]}",
            show_label=False,
            elem_id=f"chat_bot_{side}",
            height="max(280px, calc(100vh - 500px))",
            buttons=["copy"],
            latex_delimiters=[],
            allow_tags=False,
            placeholder="**Nothing said yet**\n\nWrite a message below.",
        )
        with gr.Row(elem_classes="chat-under"):
            facts = gr.HTML(elem_id=f"chat_facts_{side}", padding=False)
            correct = gr.Button("Correct this reply", elem_id=f"chat_correct_{side}", **{**owners, "min_width": 140})
    parts = {"column": column, "model": model, "load": load, "unload": unload}
    parts |= {"about": about, "bot": bot, "facts": facts, "correct": correct}
    for name, component in parts.items():
        setattr(fields, f"{name}_{side}", component)


def _build_writing(fields: SimpleNamespace) -> None:
    with gr.Row(elem_classes="chat-writing"):
        fields.box = gr.Textbox(
            label="Your message", placeholder="Write here; Enter sends", lines=1, max_lines=8,
            elem_id="chat_box", scale=1, min_width=160,
        )  # fmt: skip
        fields.send = gr.Button("Send", variant="primary", elem_id="chat_send", scale=0, min_width=84)
        fields.stop = gr.Button("Stop", variant="stop", elem_id="chat_stop", scale=0, min_width=84, visible=False)
    with gr.Row(elem_classes="buttons"):
        fields.retry = gr.Button("Retry", elem_id="chat_retry", **_BUTTON)
        fields.edit = gr.Button("Edit my message", elem_id="chat_edit", **{**_BUTTON, "min_width": 130})
        fields.clear = gr.Button("Clear", elem_id="chat_clear", **_BUTTON)


def _build_settings(fields: SimpleNamespace) -> None:
    with gr.Accordion("Settings", open=False, elem_id="chat_settings"):
        fields.system = gr.Textbox(
            label="System prompt", info="Told to the model before the first message; empty for none.",
            lines=2, max_lines=6, elem_id="chat_system",
        )  # fmt: skip
        with gr.Row():
            fields.temperature = gr.Slider(
                0, 2, 0.7, step=0.05, label="Temperature", info="0 always takes the likeliest word.",
                elem_id="chat_temperature", min_width=200,
            )  # fmt: skip
            fields.top_k = gr.Slider(
                0, 200, 50, step=1, label="Top-k", info="Choose among so many likeliest words; 0 among all.",
                elem_id="chat_top_k", min_width=200,
            )  # fmt: skip
            fields.max_tokens = gr.Slider(
                1, 2048, 256, step=1, label="Longest reply", info="In tokens.", elem_id="chat_max_tokens", min_width=200
            )
            fields.seed = gr.Number(
                1, label="Seed", info="The same seed gives the same reply.", precision=0, elem_id="chat_seed",
                min_width=140,
            )  # fmt: skip
        fields.precision = gr.Dropdown(
            precision.choices(), value=AUTOMATIC, label="Precision", info=precision.info(),
            elem_id="chat_precision", visible=not is_zero_gpu(), elem_classes=FOR_OWNER,
        )  # fmt: skip


def _build_correction(fields: SimpleNamespace) -> None:
    with gr.Column(visible=False, elem_id="chat_correction") as fields.correction:
        fields.correction_title = gr.HTML(padding=False)
        fields.corrected = gr.Textbox(label="Corrected reply", lines=3, max_lines=16, elem_id="chat_corrected")
        fields.dataset = gr.Dropdown(label="Add to", elem_id="chat_dataset")
        fields.earlier = gr.Checkbox(
            value=True,
            label="With the messages before it",
            info="Earlier replies are then trained on, too.",
            container=False,
            elem_id="chat_earlier",
        )
        with gr.Row(elem_classes="buttons"):
            fields.add = gr.Button(
                "Add to dataset", variant="primary", elem_id="chat_add", **{**_BUTTON, "min_width": 150}
            )
            fields.cancel = gr.Button("Cancel", elem_id="chat_cancel", **_BUTTON)
    fields.added = gr.HTML(elem_id="chat_added", padding=False)


def _wire(fields: SimpleNamespace, handlers: ChatHandlers, context: Context) -> None:
    def of(*names: str) -> list[Any]:
        return [getattr(fields, name) for name in names]

    _wire_writing(of, fields, handlers)
    _wire_models(of, fields, handlers, context)
    _wire_correction(of, fields, handlers, context)
    sides = of("bot_0", "facts_0", "bot_1", "facts_1")
    known = of("chat_id", *SETTINGS)
    restored = context.page.load(handlers.restore, known, [fields.chat_id, *sides, *of(*SETTINGS)], js=_OWN_ID, **QUIET)
    restored.then(handlers.follow, known, of(*STREAM), concurrency_limit=None, **QUIET)
    restored.then(handlers.code, known, fields.code, **QUIET)
    for side in SIDES:
        restored.then(handlers.about, *of(f"model_{side}", f"about_{side}"), **QUIET)
    fields.both.change(lambda both: gr.Column(visible=both), fields.both, fields.column_1, **QUIET)
    gr.on(
        [component.change for component in of(*SETTINGS)],
        handlers.code,
        known,
        fields.code,
        trigger_mode="always_last",
        **QUIET,
    )


def _wire_writing(of: Any, fields: SimpleNamespace, handlers: ChatHandlers) -> None:
    stream = {"outputs": of(*STREAM), "concurrency_limit": None, "js": _OWN_ID, **QUIET}
    gr.on(
        [fields.send.click, fields.box.submit], handlers.send, of("chat_id", "box", "editing", *SETTINGS), **stream
    ).then(handlers.about, fields.model_0, fields.about_0, **QUIET).then(
        handlers.about, fields.model_1, fields.about_1, **QUIET
    )
    fields.retry.click(handlers.retry, of("chat_id", *SETTINGS), **stream)
    fields.stop.click(handlers.stop, fields.chat_id, fields.said, queue=False, **QUIET)
    sides = ("bot_0", "facts_0", "bot_1", "facts_1")
    gr.on(
        [fields.clear.click, fields.bot_0.clear, fields.bot_1.clear],
        handlers.clear,
        fields.chat_id,
        of("said", "editing", "picked", "box", *sides),
        **QUIET,
    )
    fields.edit.click(handlers.edit, of("chat_id", "picked"), of("box", "editing", "said"), **QUIET).then(
        None, None, None, js="() => document.querySelector('#chat_box textarea').focus()"
    )
    for side in SIDES:

        @for_visitors
        def picked(chat_id: str, event: gr.SelectData, side: int = side) -> tuple[int | None, str]:
            return pick(chat_id, side, event.index)

        of(f"bot_{side}")[0].select(picked, fields.chat_id, of("picked", "said"), **QUIET)


def _wire_models(of: Any, fields: SimpleNamespace, handlers: ChatHandlers, context: Context) -> None:
    models, about = of("model_0", "model_1"), of("about_0", "about_1")
    context.tab.select(handlers.lists, models, [*models, *about], **QUIET)
    for side in SIDES:
        model, line, load, unload = of(f"model_{side}", f"about_{side}", f"load_{side}", f"unload_{side}")
        model.change(handlers.about, model, line, **QUIET)
        load.click(handlers.load, [model, fields.precision], line, concurrency_limit=None, **QUIET)
        unload.click(handlers.unload, model, line, **QUIET)


def _wire_correction(of: Any, fields: SimpleNamespace, handlers: ChatHandlers, context: Context) -> None:
    panel = of("correction", "correction_title", "corrected", "which", "dataset", "earlier", "added")
    for side in SIDES:
        inputs = [fields.chat_id, gr.State(side), fields.picked, context.dataset]
        of(f"correct_{side}")[0].click(handlers.correct, inputs, panel, **QUIET).then(
            None, None, None, js="() => document.querySelector('#chat_corrected textarea')?.focus()"
        )
    fields.add.click(
        handlers.add,
        of("chat_id", "which", "corrected", "dataset", "earlier"),
        [fields.correction, fields.added, context.dataset],
        **QUIET,
    )
    fields.cancel.click(partial(gr.Column, visible=False), None, fields.correction, **QUIET)
