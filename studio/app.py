"""The page: a title and the tabs, each built by its own module."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from studio.chat_tab import tab as chat_tab
from studio.context import Context
from studio.data_tab import tab as data_tab
from studio.evaluate_tab import tab as evaluate_tab
from studio.models.processes import ModelProcesses
from studio.models.zero_gpu import ZeroGpuModels, is_zero_gpu
from studio.parts.page import Page
from studio.parts.tour import BUTTON, tour
from studio.parts.uploads import CLEAN_SECONDS, DEFAULT_UPLOAD
from studio.space.access import current_space
from studio.space.header import SpaceHeader
from studio.space.home import HOME, SpaceHome
from studio.space.page import SpacePage
from studio.train_tab import tab as train_tab

TABS = {"Data": data_tab, "Train": train_tab, "Evaluate": evaluate_tab, "Chat": chat_tab}
OPEN_TO_VISITORS = "Chat"

# The tab stands in the address (#train), so a reload comes back to it, and a tab can be linked to.
_REMEMBER_TAB = "() => history.replaceState(null, '', '#{tab}')"
_OPEN_REMEMBERED_TAB = """() => {
    const name = location.hash.slice(1);
    if (/^[a-z]+$/.test(name)) document.getElementById(`${name}_tab-button`)?.click();
}"""

HEADER = """<header class="studio-header"><span class="mark" aria-hidden="true"></span><h1>nanochat studio</h1>
<p>Teach a nanochat model your own conversations.</p>{}</header>"""


def build_app(tab: str = "data", home: SpaceHome | None = None, max_upload: int = DEFAULT_UPLOAD) -> gr.Blocks:
    """The whole app, not yet launched; `tab` (data, train, evaluate, chat) is open at first.

    max_upload: bytes of the largest file that a browser may send, for the page to say.

    On a Space, whose `home` is where its owner's things are kept, it is limited to what the sender of an event may do.
    """
    space = current_space()
    if space is None:
        return _build(Page, tab, None, max_upload)
    with _nothing_at_home():
        return _build(SpacePage, tab, partial(SpaceHeader, space, home or SpaceHome(None)), max_upload)


def _build(page: type[gr.Blocks], tab: str, space_header: Any, max_upload: int) -> gr.Blocks:
    with page(title="nanochat studio", fill_width=True, analytics_enabled=False, delete_cache=CLEAN_SECONDS) as demo:
        gr.HTML(HEADER.format("" if space_header else BUTTON), elem_id="header", padding=False)
        header = space_header() if space_header else None
        if header is None:  # a Space tells its visitors what each tab is for
            tour()
        # Not inside Tabs, which takes its children for tabs.
        dataset, to_data, to_chat, to_evaluate = gr.State(""), *(gr.State([]) for _ in range(3))
        with gr.Tabs(selected=tab, elem_id="tabs") as tabs:
            context = Context(
                tabs=tabs,
                dataset=dataset,
                to_data=to_data,
                to_chat=to_chat,
                to_evaluate=to_evaluate,
                models=chat_models_here(),
                page=demo,
                max_upload=max_upload,
            )
            for label, module in TABS.items():
                with gr.Tab(label, id=label.lower(), elem_id=f"{label.lower()}_tab") as context.tab:
                    if header is None or label == OPEN_TO_VISITORS:
                        module.build(context)
                    else:
                        header.build_tab(label.lower(), partial(module.build, context))
                context.tab.select(None, None, None, js=_REMEMBER_TAB.format(tab=label.lower()))
        demo.load(None, None, None, js=_OPEN_REMEMBERED_TAB)
        if header is not None:
            header.wire(demo)
    return demo


def chat_models_here() -> ModelProcesses | ZeroGpuModels:
    """What holds the models: processes of their own, except where only this one is given a GPU."""
    return ZeroGpuModels() if is_zero_gpu() else ModelProcesses()


@contextlib.contextmanager
def _nothing_at_home() -> Iterator[None]:
    """An empty home folder. Everybody gets the page as it was built, so no name of the owner's may be in it."""
    before = os.environ.get(HOME)
    with tempfile.TemporaryDirectory() as empty:
        os.environ[HOME] = empty
        try:
            yield
        finally:
            if before is None:
                del os.environ[HOME]
            else:
                os.environ[HOME] = before
