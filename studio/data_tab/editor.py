"""The editor of one conversation: bubbles drawn in the browser by editor.js, from one value that the app gives.

Not gradio's own fields: those are made again with every change of the turns, and keys for an old one are lost.
"""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from studio.data_tab import acts, handlers
from studio.data_tab.handlers import At

_SCRIPT = Path(__file__).with_name("editor.js")

FLUSH = "async (...values) => { await window.dataEditor?.flush(); return values; }"
"""Before a click on anything outside the editor is sent: the app must have what was typed last."""


def editor() -> gr.HTML:
    """Its events: `typed` after the app has stored what was typed, `act` for a button, with what it says."""
    return gr.HTML(
        drawn(None),
        html_template="",
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        server_functions=[store],
        apply_default_css=False,
        padding=False,
        elem_id="data-editor",
    )


def drawn(at: At | None) -> str:
    """The value that draws what is shown at `at`. Without `<`, since gradio looks for script in it."""
    shown: Any = acts.view(at or handlers.NOWHERE)
    return json.dumps(shown).replace("<", "\\u003c")


def store(told: str) -> dict[str, Any]:
    """Called by the page with what was typed."""
    return acts.store(json.loads(told))
