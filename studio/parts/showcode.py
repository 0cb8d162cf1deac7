"""The fold "Show the code": under every action the nanochat_core call that does the same, to copy into a cell.

By itself: one fold, which all four tabs draw.
"""

from typing import Literal

import gradio as gr

from nanochat_core.runs.as_code import python_call

__all__ = ["python_call", "show_code"]


def show_code(
    elem_id: str, code: str = "", label: str = "Show the code", language: Literal["python", "shell"] = "python"
) -> gr.Code:
    """A closed fold with code and a copy button. Return the text from a handler to keep it up to date."""
    with gr.Accordion(label, open=False, elem_id=f"{elem_id}_fold", elem_classes="show-code"):
        return gr.Code(
            code, language=language, interactive=False, show_label=False, container=False, lines=1, elem_id=elem_id
        )
