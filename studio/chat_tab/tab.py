"""The Chat tab: talk to one model, or to two side by side, and turn a bad answer into a training row."""

from typing import Any

import gradio as gr

from studio.chat_tab import precision, taught, wiring
from studio.chat_tab.fields import ChatFields, Correction, SettingsFields, Side, Writing
from studio.chat_tab.models import choices, defaults
from studio.chat_tab.state import SIDES
from studio.context import Context
from studio.models.processes import AUTOMATIC
from studio.models.zero_gpu import is_zero_gpu
from studio.parts import html
from studio.parts.showcode import show_code

LETTERS = ("A", "B")
FOR_OWNER = "for-owner"
"""Class of what the visitors of a Space do not see; they could not use it either."""
LEAD = (
    "Ask one model, or two the same: the base beside what you taught it. "
    "Where a reply is bad, write what it should have been and add it to your data."
)


def build(context: Context) -> None:
    """Lay the tab out and wire it."""
    gr.HTML(html.lead(LEAD))
    # A field and not a BrowserState, which is not read before its tab has been opened.
    chat_id = gr.Textbox(visible=False, elem_id="chat_id")
    both = gr.Checkbox(
        value=False, label="Two models side by side", elem_id="chat_both", container=False, elem_classes=FOR_OWNER
    )
    with gr.Row(equal_height=False, elem_id="chat_sides"):
        first, second = (_side(side, value) for side, value in zip(SIDES, defaults(), strict=True))
    said = gr.HTML(elem_id="chat_said", padding=False)
    correction, writing = _correction(), _writing()
    settings = _settings(both, first.model, second.model)
    fields = ChatFields(
        chat_id=chat_id,
        is_open=gr.Checkbox(visible=False, elem_id="chat_is_open"),
        editing=gr.State(None),
        picked=gr.State(None),
        sides=(first, second),
        said=said,
        correction=correction,
        writing=writing,
        settings=settings,
        code=show_code("chat_code"),
    )
    wiring.wire(fields, context)


def _button(label: str, name: str, width: int = 84, **more: Any) -> gr.Button:
    return gr.Button(label, elem_id=f"chat_{name}", size="sm", scale=0, min_width=width, **more)


def _side(side: int, value: str | None) -> Side:
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
            load = _button("Load", f"load_{side}", 60, elem_classes=FOR_OWNER)
            unload = _button("Unload", f"unload_{side}", 70, elem_classes=FOR_OWNER)
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
            correct = _button("Correct this reply", f"correct_{side}", 140, elem_classes=FOR_OWNER)
        rows = taught.panel(side)
    return Side(column, model, load, unload, about, bot, facts, correct, rows)


def _writing() -> Writing:
    with gr.Row(elem_classes="chat-writing"):
        box = gr.Textbox(
            label="Your message",
            placeholder="Write here; Enter sends",
            lines=1,
            max_lines=8,
            elem_id="chat_box",
            scale=1,
            min_width=160,
        )
        send = gr.Button("Send", variant="primary", elem_id="chat_send", scale=0, min_width=84)
        stop = gr.Button("Stop", variant="stop", elem_id="chat_stop", scale=0, min_width=84, visible=False)
    taken = gr.Textbox(visible="hidden", elem_id="chat_taken")
    with gr.Row(elem_classes="buttons"):
        retry, edit, clear = (
            _button("Retry", "retry"),
            _button("Edit my message", "edit", 130),
            _button("Clear", "clear"),
        )
    return Writing(box, taken, send, stop, retry, edit, clear)


def _settings(both: gr.Checkbox, model_0: gr.Dropdown, model_1: gr.Dropdown) -> SettingsFields:
    with gr.Accordion("Settings", open=False, elem_id="chat_settings"):
        system = gr.Textbox(
            label="System prompt",
            info="Told to the model before the first message; empty for none.",
            lines=2,
            max_lines=6,
            elem_id="chat_system",
        )
        with gr.Row():
            temperature = gr.Slider(
                *(0, 2, 0.7),
                step=0.05,
                label="Temperature",
                info="0 always takes the likeliest word.",
                elem_id="chat_temperature",
                min_width=200,
            )
            top_k = gr.Slider(
                *(0, 200, 50),
                step=1,
                label="Top-k",
                info="Choose among so many likeliest words; 0 among all.",
                elem_id="chat_top_k",
                min_width=200,
            )
            max_tokens = gr.Slider(
                *(1, 2048, 256),
                step=1,
                label="Longest reply",
                info="In tokens.",
                elem_id="chat_max_tokens",
                min_width=200,
            )
            seed = gr.Number(
                1,
                label="Seed",
                info="The same seed gives the same reply.",
                precision=0,
                elem_id="chat_seed",
                min_width=140,
            )
        held = gr.Dropdown(
            precision.choices(),
            value=AUTOMATIC,
            label="Precision",
            info=precision.info(),
            elem_id="chat_precision",
            visible=not is_zero_gpu(),
            elem_classes=FOR_OWNER,
        )
    return SettingsFields(both, model_0, model_1, system, temperature, top_k, max_tokens, held, seed)


def _correction() -> Correction:
    with gr.Column(visible=False, elem_id="chat_correction") as panel:
        title = gr.HTML(padding=False)
        text = gr.Textbox(label="Corrected reply", lines=3, max_lines=16, elem_id="chat_corrected")
        dataset = gr.Dropdown(label="Add to", elem_id="chat_dataset")
        earlier = gr.Checkbox(
            value=True,
            label="With the messages before it",
            info="Earlier replies are then trained on, too.",
            container=False,
            elem_id="chat_earlier",
        )
        with gr.Row(elem_classes="buttons"):
            add, cancel = _button("Add to dataset", "add", 150, variant="primary"), _button("Cancel", "cancel")
    added = gr.HTML(elem_id="chat_added", padding=False)
    return Correction(panel, title, text, gr.State([0, 0]), dataset, earlier, add, cancel, added)
