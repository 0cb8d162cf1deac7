"""The form of settings, made from FinetuneConfig: a field for each setting, its sentence as help."""

from typing import Any

import gradio as gr

from nanochat_core.config import Setting
from studio.train_choices import CHOICES, form_names, form_settings

_LABELS = {
    "num_epochs": "Epochs",
    "target_examples_per_step": "Conversations a step",
    "device_batch_size": "Batch on a device",
    "init_lr_frac": "Learning rate factor",
    "matrix_lr": "Matrix rate",
    "embedding_lr": "Embedding rate",
    "unembedding_lr": "Output head rate",
}


def build_form(values: dict[str, Any]) -> list[gr.components.Component]:
    """The fields in the order of `form_names`, the essential ones first and the others in a fold."""
    essential, others = form_settings()
    with gr.Row(elem_id="train_essentials", elem_classes="fields"):
        fields = [_field(setting, values[setting.name]) for setting in essential]
    with gr.Accordion("More settings", open=False, elem_id="train_more"), gr.Row(elem_classes="fields wide"):
        fields += [_field(setting, values[setting.name]) for setting in others]
    return fields


def by_name(values: tuple[Any, ...] | list[Any]) -> dict[str, Any]:
    """The fields' values by the settings' names."""
    return dict(zip(form_names(), values, strict=True))


def _field(setting: Setting, value: Any) -> gr.components.Component:
    label = _LABELS.get(setting.name, setting.name)
    info = setting.help if label == setting.name else f"{setting.name}: {setting.help}"
    shared = {"label": label, "info": info, "elem_id": f"set_{setting.name}", "min_width": 200, "interactive": True}
    if setting.name in CHOICES:
        return gr.Dropdown(list(CHOICES[setting.name]), value=value, **shared)
    if setting.type.startswith(("int", "float")):
        return gr.Number(value, precision=0 if setting.type.startswith("int") else None, **shared)
    return gr.Textbox(value, max_lines=1, **shared)
