"""The page: a title and the tabs, each built by its own module."""

import gradio as gr

from studio import chat_tab, data_tab, evaluate_tab, train_tab
from studio.context import Context
from studio.model_process import ModelProcesses

TABS = {"Data": data_tab, "Train": train_tab, "Evaluate": evaluate_tab, "Chat": chat_tab}

# The tab stands in the address (#train), so a reload comes back to it, and a tab can be linked to.
_REMEMBER_TAB = "() => history.replaceState(null, '', '#{tab}')"
_OPEN_REMEMBERED_TAB = """() => {
    const name = location.hash.slice(1);
    if (/^[a-z]+$/.test(name)) document.getElementById(`${name}_tab-button`)?.click();
}"""

HEADER = """<header class="studio-header"><span class="mark" aria-hidden="true"></span><h1>nanochat studio</h1>
<p>Teach a nanochat model your own conversations.</p></header>"""


def build_app(tab: str = "data") -> gr.Blocks:
    """The whole app, not yet launched; `tab` (data, train, evaluate, chat) is open at first."""
    with gr.Blocks(title="nanochat studio", fill_width=True, analytics_enabled=False) as demo:
        gr.HTML(HEADER, elem_id="header", padding=False)
        dataset, selected = gr.State(""), gr.State("")  # not inside Tabs, which takes its children for tabs
        with gr.Tabs(selected=tab, elem_id="tabs") as tabs:
            context = Context(tabs=tabs, dataset=dataset, selected=selected, models=ModelProcesses(), page=demo)
            for label, module in TABS.items():
                with gr.Tab(label, id=label.lower(), elem_id=f"{label.lower()}_tab") as context.tab:
                    module.build(context)
                context.tab.select(None, None, None, js=_REMEMBER_TAB.format(tab=label.lower()))
        demo.load(None, None, None, js=_OPEN_REMEMBERED_TAB)
    return demo
