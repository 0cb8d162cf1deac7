"""The fold "Show the code": under every action the nanochat_core call that does the same, to copy into a cell."""

from collections.abc import Mapping
from typing import Any

import gradio as gr


def show_code(elem_id: str, code: str = "", label: str = "Show the code", language: str = "python") -> gr.Code:
    """A closed fold with code and a copy button. Return the text from a handler to keep it up to date."""
    with gr.Accordion(label, open=False, elem_id=f"{elem_id}_fold", elem_classes="show-code"):
        return gr.Code(
            code, language=language, interactive=False, show_label=False, container=False, lines=1, elem_id=elem_id
        )


def python_call(function: str, arguments: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> str:
    """`function(name=value, ...)`, one argument a line, without those that have their default."""
    defaults = defaults or {}
    kept = {name: value for name, value in arguments.items() if name not in defaults or defaults[name] != value}
    if not kept:
        return f"{function}()"
    lines = "".join(f"    {name}={value!r},\n" for name, value in kept.items())
    return f"{function}(\n{lines})"
