"""The components of the Chat tab, by name and part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.chat_tab.handlers import STREAM
from studio.chat_tab.settings import SETTINGS


@dataclass(frozen=True)
class Side:
    """One model, its buttons, and its half of the conversation."""

    column: gr.Column
    model: gr.Dropdown
    load: gr.Button
    unload: gr.Button
    about: gr.HTML
    bot: gr.Chatbot
    facts: gr.HTML
    correct: gr.Button
    taught: gr.HTML
    """The rows that taught the last reply, or the one that was clicked on."""


@dataclass(frozen=True)
class Writing:
    """Where a message is written, and the buttons below."""

    box: gr.Textbox
    taken: gr.Textbox
    """The text that is being answered, as it stood in the box, beside something that no other one has."""
    send: gr.Button
    stop: gr.Button
    retry: gr.Button
    edit: gr.Button
    clear: gr.Button


@dataclass(frozen=True)
class SettingsFields:
    """A field for each value of ChatSettings, by the same name."""

    both: gr.Checkbox
    model_0: gr.Dropdown
    model_1: gr.Dropdown
    system: gr.Textbox
    temperature: gr.Slider
    top_k: gr.Slider
    max_tokens: gr.Slider
    precision: gr.Dropdown
    seed: gr.Number

    @property
    def all(self) -> list[Any]:
        """In the order of SETTINGS."""
        return [getattr(self, name) for name in SETTINGS]


@dataclass(frozen=True)
class Correction:
    """The panel in which a bad reply becomes a training row."""

    panel: gr.Column
    title: gr.HTML
    text: gr.Textbox
    which: gr.State
    """[side, turn] of the reply."""
    dataset: gr.Dropdown
    earlier: gr.Checkbox
    add: gr.Button
    cancel: gr.Button
    added: gr.HTML
    """What came of it; stays when the panel is closed."""


@dataclass(frozen=True)
class ChatFields:
    """The whole tab."""

    chat_id: gr.Textbox
    is_open: gr.Checkbox
    """Whether the tab is the one that is seen, as the page says it with an event."""
    editing: gr.State
    """The turn that the message in the box replaces, else None."""
    picked: gr.State
    """The turn that was clicked on, else None."""
    sides: tuple[Side, Side]
    said: gr.HTML
    """A note on what was just done, or could not be."""
    correction: Correction
    writing: Writing
    settings: SettingsFields
    code: gr.Code

    @property
    def known(self) -> list[Component]:
        """What most handlers are given: which chat, and the settings."""
        return [self.chat_id, *self.settings.all]

    @property
    def shown(self) -> list[Component]:
        """Chatbots and lines of both sides."""
        return [component for side in self.sides for component in (side.bot, side.facts)]

    @property
    def stream(self) -> Sequence[Component]:
        """What a reply changes, in the order of STREAM."""
        components: dict[str, Component] = {
            **{f"bot_{number}": side.bot for number, side in enumerate(self.sides)},
            **{f"facts_{number}": side.facts for number, side in enumerate(self.sides)},
            "taken": self.writing.taken,
            "send": self.writing.send,
            "stop": self.writing.stop,
            "said": self.said,
            "editing": self.editing,
            "seed": self.settings.seed,
            "code": self.code,
            "chat_id": self.chat_id,
            "picked": self.picked,
        }
        return [components[name] for name in STREAM]
