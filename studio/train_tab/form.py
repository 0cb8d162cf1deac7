"""The form of settings, made from FinetuneConfig: a field for each setting, its sentence as help."""

from typing import Any

import gradio as gr

from nanochat_core.config import Setting
from studio.train_tab.choices import CHOICES, form_names, form_settings, is_shown

_LABELS = {
    "method": "Method",
    "lora_lr": "LoRA rate",
    "lora_rank": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_targets": "LoRA matrices",
    "num_epochs": "Epochs",
    "target_examples_per_step": "Conversations per step",
    "device_batch_size": "Batch per device",
    "init_lr_frac": "Learning rate factor",
    "matrix_lr": "Matrix rate",
    "embedding_lr": "Embedding rate",
    "unembedding_lr": "Output head rate",
    "learn_from_corrections": "Learn from corrections",
}


def essential_fields(values: dict[str, Any]) -> list[gr.components.Component]:
    """The fields that everybody looks at."""
    method = values["method"]
    return [_field(setting, values[setting.name], is_shown(setting.name, method)) for setting in form_settings()[0]]


def other_fields(values: dict[str, Any]) -> list[gr.components.Component]:
    """All the others. Essential and others together are in the order of `form_names`."""
    return [_field(setting, values[setting.name]) for setting in form_settings()[1]]


def by_name(values: tuple[Any, ...] | list[Any]) -> dict[str, Any]:
    """The fields' values by the settings' names."""
    return dict(zip(form_names(), values, strict=True))


def _field(setting: Setting, value: Any, visible: bool = True) -> gr.components.Component:
    label = _LABELS.get(setting.name, setting.name)
    info = setting.help if label == setting.name else f"{setting.name}: {setting.help}"
    shared: dict[str, Any] = {
        "label": label,
        "info": info,
        "elem_id": f"set_{setting.name}",
        "min_width": 200,
        "interactive": True,
        "visible": visible,
    }
    if setting.name in CHOICES:
        return gr.Dropdown(list(CHOICES[setting.name]), value=value, **shared)
    if setting.kind is bool:
        return gr.Checkbox(bool(value), **shared)
    # A number field shows 0 for "not given", so optional numbers are text.
    if setting.kind in (int, float) and not setting.is_optional:
        return gr.Number(value, precision=0 if setting.kind is int else None, **shared)
    empty = "not given" if setting.is_optional else None
    return gr.Textbox(value, max_lines=1, placeholder=empty, **shared)
