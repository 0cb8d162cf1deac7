"""The components of the upper half of the Train tab, by name and part."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component


@dataclass(frozen=True)
class Choice:
    """What to train."""

    base: gr.Dropdown
    data: gr.Dropdown
    tag: gr.Textbox
    preset: gr.Dropdown


@dataclass(frozen=True)
class SettingsFields:
    """How to train it."""

    form: list[Component]
    """In the order of `form_names`."""
    gpus: gr.CheckboxGroup
    count: gr.Number
    """Processes, where there is no GPU."""
    save: gr.Button
    load: gr.UploadButton
    saved: gr.DownloadButton


@dataclass(frozen=True)
class Before:
    """What is known before the start."""

    counts: gr.HTML
    probe: gr.Button
    probed: gr.HTML


@dataclass(frozen=True)
class Starting:
    """The buttons that start or queue a run, and what came of it."""

    start: gr.Button
    queue: gr.Button
    clear: gr.Button
    said: gr.HTML
    waiting: gr.HTML
    cell: gr.Code
    command: gr.Code


@dataclass(frozen=True)
class TrainFields:
    """The whole upper half."""

    choice: Choice
    settings: SettingsFields
    before: Before
    starting: Starting
