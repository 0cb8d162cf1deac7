"""The Train tab: choose, set, look before the start, start; then watch, stop and resume."""

from typing import Any

import gradio as gr

from nanochat_core.system.hardware import Hardware, find_hardware
from studio.context import Context
from studio.parts import html
from studio.parts.showcode import show_code
from studio.train_tab import before_start, download_panel, machines_panel, rent_panel, watch_panel
from studio.train_tab import handlers as train_events
from studio.train_tab.choices import PRESETS, default_base, preset_values, suggest_tag
from studio.train_tab.fields import Before, Choice, SettingsFields, Starting, TrainFields
from studio.train_tab.form import essential_fields, other_fields
from studio.train_tab.handlers import Handlers


def build(context: Context) -> None:
    """Lay the tab out and wire it."""
    base, datasets, hardware = default_base(), before_start.dataset_choices(), find_hardware()
    data = datasets[0][1] if datasets else ""
    gr.HTML(html.lead("Teach a model your conversations: choose, look at what will happen, start, and watch."))
    choice = _choice(base, datasets, data)
    download_panel.build(context, choice.base)
    settings = _settings(hardware, preset_values(PRESETS[0], base, data))
    fields = TrainFields(choice, settings, _before(context, bool(data)), _start())
    rented = gr.Column(elem_id="train_rented")
    gr.HTML(html.step(5, "Watch"), elem_id="watch_title")
    panel, handlers = watch_panel.build(context, fields), Handlers(hardware)
    with rented:
        machines_panel.build(fields, handlers)
        rent_panel.build(fields, panel.picker)
    train_events.wire(fields, panel, context, handlers)


def _choice(chosen: str, datasets: list[tuple[str, str]], path: str) -> Choice:
    gr.HTML(html.step(1, "What to train"))
    with gr.Row(elem_classes="fields"):
        base = gr.Dropdown(
            before_start.base_choices(), value=chosen, label="Base model", elem_id="train_base", min_width=220
        )
        data = gr.Dropdown(datasets, value=path, label="Dataset", elem_id="train_data", min_width=220)
        tag = gr.Textbox(suggest_tag(path), label="Name of the run", elem_id="train_tag", min_width=200, max_lines=1)
        preset = gr.Dropdown(list(PRESETS), value=PRESETS[0], label="Preset", elem_id="train_preset", min_width=220)
    return Choice(base=base, data=data, tag=tag, preset=preset)


def _settings(hardware: Hardware, values: dict[str, Any]) -> SettingsFields:
    gr.HTML(html.step(2, "How", hardware.sentence()), elem_id="train_hardware")
    found = before_start.gpu_choices(hardware)
    every = [index for _, index in found]
    gpus = gr.CheckboxGroup(found, value=every, label="GPUs to use", visible=bool(found), elem_id="train_gpus")
    with gr.Row(elem_id="train_essentials", elem_classes="fields"):
        essential = essential_fields(values)
        count = gr.Number(
            1,
            label="Processes",
            info="How many share the work on the CPU; one is best for a small model.",
            precision=0,
            minimum=1,
            visible=not found,
            elem_id="train_nproc",
            min_width=200,
        )
    with gr.Accordion("More settings", open=False, elem_id="train_more"), gr.Row(elem_classes="fields"):
        form = essential + other_fields(values)
    with gr.Row(elem_classes="buttons"):
        save = gr.Button("Save settings", size="sm", elem_id="train_save", scale=0, min_width=130)
        load = gr.UploadButton(
            "Load settings", file_types=[".json"], size="sm", elem_id="train_load", scale=0, min_width=130
        )
        saved = gr.DownloadButton(visible="hidden", elem_id="train_saved")
    return SettingsFields(form=form, gpus=gpus, count=count, save=save, load=load, saved=saved)


def _before(context: Context, has_data: bool) -> Before:
    gr.HTML(html.step(3, "Before the start", "Counted with the base model's own tokenizer, on every conversation."))
    counts = gr.HTML(before_start.counting() if has_data else "", elem_id="train_counts", padding=False)
    has_models = context.models is not None
    with gr.Row(elem_classes="buttons"):
        probe = gr.Button(
            "Measure time and memory", size="sm", elem_id="train_probe", visible=has_models, scale=0, min_width=190
        )
    probed = gr.HTML(elem_id="train_probed", padding=False)
    return Before(counts=counts, probe=probe, probed=probed)


def _start() -> Starting:
    gr.HTML(html.step(4, "Start", "The run continues when this page, or the whole app, is closed."))
    with gr.Row(elem_classes="buttons"):
        start = gr.Button("Start training", variant="primary", elem_id="train_start", scale=0, min_width=180)
        queue = gr.Button("Queue it", elem_id="train_queue", scale=0, min_width=130)
        clear = gr.Button("Empty the queue", elem_id="train_unqueue", scale=0, min_width=150, visible=False)
    said = gr.HTML(elem_id="train_said", padding=False)
    waiting = gr.HTML(elem_id="train_waiting", padding=False)
    cell = show_code("train_cell")
    command = show_code("train_command", label="Show the shell command", language="shell")
    return Starting(start=start, queue=queue, clear=clear, said=said, waiting=waiting, cell=cell, command=command)
