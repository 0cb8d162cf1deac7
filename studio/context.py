"""What the tabs share: ids and handles only. The truth lies on disk, and every handler reads it there.

By itself, since each tab imports it and it imports no tab.
"""

import uuid
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from studio.parts.uploads import DEFAULT_UPLOAD


@dataclass
class Context:
    """Made once by build_app, inside its Blocks, and given to every tab's build()."""

    tabs: gr.Tabs
    """Ids: data, train, evaluate, chat. A handler goes there by returning gr.Tabs(selected="train")."""
    dataset: gr.State
    """Path of the dataset chosen in Data, as text; "" before one is chosen. Set it in queued events only: others do
    not fire its change."""
    to_data: gr.State
    """A wish: (path of a dataset, one of its lines) that Data is to show. Data opens itself then."""
    to_chat: gr.State
    """A wish: the run that Chat is to open with, beside its base. Chat opens itself then."""
    to_evaluate: gr.State
    """A wish: (the run that Evaluate is to show, CSS selector of the part to scroll to). Evaluate opens itself then."""
    models: Any
    """The worker processes that hold models (studio.models.processes), shared by all browsers."""
    page: gr.Blocks
    """For page.load: what must be fresh when a browser opens the page."""
    max_upload: int = DEFAULT_UPLOAD
    """Bytes of the largest file that a browser may send."""
    tab: gr.Tab = field(init=False)
    """The tab that is being built; its select event is when lists must be fresh."""


def wish(*values: str) -> list[str]:
    """What one tab asks of another through a State: the same wish a second time is a change, too."""
    return [*values, uuid.uuid4().hex]
