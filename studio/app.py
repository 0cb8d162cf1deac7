"""The page: a title and the tabs, each built by its own module."""

import importlib
import importlib.util

import gradio as gr

from studio.context import Context

TABS = ("Data", "Train", "Evaluate", "Chat")

HEADER = """<header class="studio-header"><span class="mark" aria-hidden="true"></span><h1>nanochat studio</h1>
<p>Teach a nanochat model your own conversations.</p></header>"""


def build_app(tab: str = "data") -> gr.Blocks:
    """The whole app, not yet launched; `tab` (data, train, evaluate, chat) is open at first."""
    with gr.Blocks(title="nanochat studio", fill_width=True, analytics_enabled=False) as demo:
        gr.HTML(HEADER, elem_id="header", padding=False)
        dataset, selected = gr.State(""), gr.State("")  # not inside Tabs, which takes its children for tabs
        with gr.Tabs(selected=tab, elem_id="tabs") as tabs:
            context = Context(tabs=tabs, dataset=dataset, selected=selected, models=_models(), page=demo)
            for label in TABS:
                name = f"studio.{label.lower()}_tab"
                if importlib.util.find_spec(name):
                    with gr.Tab(label, id=label.lower(), elem_id=f"{label.lower()}_tab") as context.tab:
                        importlib.import_module(name).build(context)
    return demo


def _models():
    if importlib.util.find_spec("studio.model_process") is None:
        return None
    return importlib.import_module("studio.model_process").ModelProcesses()
