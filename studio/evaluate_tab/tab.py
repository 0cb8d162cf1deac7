"""The Evaluate tab: all runs, their loss curves over each other, and two of them side by side."""

import gradio as gr

from nanochat_core.show.palette import X_LABELS
from studio.context import Context
from studio.evaluate_tab import charts, handlers, outgoing_panel
from studio.evaluate_tab.handlers import EvaluateFields
from studio.parts import html
from studio.parts.showcode import show_code
from studio.runs import facts


def build(context: Context) -> None:
    """Lay the tab out and wire it."""
    gr.HTML(html.lead("Look at what the training did: every run, its loss, and what differs between two of them."))
    fields = EvaluateFields()
    _runs(fields)
    outgoing_panel.build(context, fields.run)
    _curves(fields)
    _comparison(fields)
    handlers.wire(fields, context)


def _runs(fields: EvaluateFields) -> None:
    gr.HTML(html.step(1, "All runs", "Started in this app, in a terminal or in a notebook."))
    fields.table = gr.HTML(elem_id="eval_table", padding=False)
    with gr.Row(elem_classes="fields"):
        fields.sort = gr.Dropdown(list(facts.SORTS), value=facts.SORTS[0], label="Order", elem_id="eval_sort")
        fields.run = gr.Dropdown([], value=None, label="Chosen run", elem_id="eval_run")
        fields.note = gr.Textbox(label="Note", max_lines=1, elem_id="eval_note", placeholder="What was tried here?")
        fields.name = gr.Textbox(label="New name", max_lines=1, elem_id="eval_name")
    with gr.Row(elem_classes="buttons"):
        fields.keep = gr.Button("Save note", size="sm", elem_id="eval_keep", scale=0, min_width=120)
        fields.rename = gr.Button("Rename", size="sm", elem_id="eval_rename", scale=0, min_width=120)
        fields.notebook = gr.Button("As a notebook", size="sm", elem_id="eval_notebook", scale=0, min_width=120)
        fields.delete = gr.Button("Delete", size="sm", elem_id="eval_delete", scale=0, min_width=120)
    with gr.Row(visible=False, elem_classes="buttons", elem_id="eval_sure") as fields.sure:
        fields.question = gr.HTML(elem_id="eval_question", padding=False)
        fields.yes = gr.Button("Yes, delete it", variant="stop", size="sm", elem_id="eval_delete_yes", scale=0)
        fields.no = gr.Button("Keep it", size="sm", elem_id="eval_delete_no", scale=0)
    fields.said = gr.HTML(elem_id="eval_said", padding=False)
    show_code(
        "eval_runs_code", "from nanochat_core import Run\n\nfor run in Run.list():\n    print(run.tag, run.status())"
    )


def _curves(fields: EvaluateFields) -> None:
    gr.HTML(
        html.step(2, "Loss", "The lower the better; validation tells what holds for conversations never trained on.")
    )
    with gr.Row(elem_classes="fields"):
        fields.shown = gr.Dropdown([], value=[], multiselect=True, max_choices=8, label="Runs", elem_id="eval_shown")
        fields.which = gr.Dropdown(list(charts.CURVES), value="Both", label="Curves", elem_id="eval_which")
        x_axes = [(label, name) for name, label in X_LABELS.items()]
        fields.x_axis = gr.Dropdown(x_axes, value="step", label="Across", elem_id="eval_x")
        fields.smoothing = gr.Slider(0, 0.98, 0.6, step=0.02, label="Smoothing of training", elem_id="eval_smoothing")
        fields.log = gr.Checkbox(value=False, label="Logarithmic scale", elem_id="eval_log")
    fields.chart = gr.HTML(elem_id="eval_chart", padding=False)
    with gr.Row(elem_classes="buttons"):
        fields.png = gr.Button("Download PNG", size="sm", elem_id="eval_png", scale=0, min_width=140)
        fields.csv = gr.Button("Download CSV", size="sm", elem_id="eval_csv", scale=0, min_width=140)
        fields.file = gr.DownloadButton(visible="hidden", elem_id="eval_file")
    fields.chart_code = show_code("eval_chart_code")


def _comparison(fields: EvaluateFields) -> None:
    gr.HTML(
        html.step(3, "Compare two runs", "Only what differs, both curves, and what each answered before and after.")
    )
    with gr.Row(elem_classes="fields"):
        fields.first = gr.Dropdown([], value=None, label="One run", elem_id="eval_first")
        fields.second = gr.Dropdown([], value=None, label="Another run", elem_id="eval_second")
    fields.compared = gr.HTML(elem_id="eval_compared", padding=False)
    fields.pair = gr.HTML(elem_id="eval_pair", padding=False)
    fields.scores = gr.HTML(elem_id="eval_scores", padding=False)
    fields.pair_code = show_code("eval_pair_code")
