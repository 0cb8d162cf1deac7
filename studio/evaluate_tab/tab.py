"""The Evaluate tab: all runs, whether a model got better, which rows did it, and the losses over each other."""

from typing import Any

import gradio as gr

from nanochat_core.show.palette import X_LABELS
from studio.context import Context
from studio.evaluate_tab import (
    charts,
    data_panel,
    handlers,
    outgoing_panel,
    proof_panel,
    questions_panel,
    report_panel,
    rows_panel,
)
from studio.evaluate_tab.asking import Asking
from studio.evaluate_tab.fields import Curves, EvaluateFields, Runs
from studio.evaluate_tab.proof_panel import ProofHandlers
from studio.parts import html
from studio.parts.showcode import show_code
from studio.runs import facts


def build(context: Context) -> None:
    """Lay the tab out and wire it."""
    gr.HTML(html.lead("Look at what the training did: whether it got better, what that cost, and which rows did it."))
    runs = _runs()
    outgoing_panel.build(context, runs.run)
    proof = proof_panel.panel(has_models=context.models is not None)
    questions, data = questions_panel.panel(), data_panel.panel(has_models=context.models is not None)
    rows, asking = rows_panel.panel(has_models=context.models is not None), Asking(context.models)
    handlers.wire(EvaluateFields(runs, _curves()), asking, context)
    report_panel.wire(report_panel.panel(), runs.run, context)
    proof_panel.wire(proof, ProofHandlers(asking), runs.run, context)
    data_panel.wire(data, [proof.this, proof.other], asking, context)
    questions_panel.wire(questions, proof.questions, context)
    rows_panel.wire(rows, runs.run, asking, context)


def _runs() -> Runs:
    gr.HTML(html.step(1, "All runs", "Started in this app, in a terminal or in a notebook."))
    table = gr.HTML(elem_id="eval_table", padding=False)
    with gr.Row(elem_classes="fields"):
        sort = gr.Dropdown(list(facts.SORTS), value=facts.SORTS[0], label="Order", elem_id="eval_sort")
        run = gr.Dropdown([], value=None, label="Chosen run", elem_id="eval_run")
    with gr.Accordion("Note, rename, delete", open=False, elem_id="eval_run_fold"):
        more = _of_run()
    show_code(
        "eval_runs_code", "from nanochat_core import Run\n\nfor run in Run.list():\n    print(run.tag, run.status())"
    )
    return Runs(table=table, sort=sort, run=run, **more)


def _of_run() -> dict[str, Any]:
    """What can be done with the chosen run, by the names of Runs."""
    with gr.Row(elem_classes="fields"):
        note = gr.Textbox(label="Note", max_lines=1, elem_id="eval_note", placeholder="What was tried here?")
        name = gr.Textbox(label="New name", max_lines=1, elem_id="eval_name")
    with gr.Row(elem_classes="buttons"):
        keep = gr.Button("Save note", size="sm", elem_id="eval_keep", scale=0, min_width=120)
        rename = gr.Button("Rename", size="sm", elem_id="eval_rename", scale=0, min_width=120)
        notebook = gr.Button("As a notebook", size="sm", elem_id="eval_notebook", scale=0, min_width=120)
        delete = gr.Button("Delete", size="sm", elem_id="eval_delete", scale=0, min_width=120)
    with gr.Row(visible=False, elem_classes="buttons", elem_id="eval_sure") as sure:
        question = gr.HTML(elem_id="eval_question", padding=False)
        yes = gr.Button("Yes, delete it", variant="stop", size="sm", elem_id="eval_delete_yes", scale=0)
        no = gr.Button("Keep it", size="sm", elem_id="eval_delete_no", scale=0)
    said = gr.HTML(elem_id="eval_said", padding=False)
    return {
        "note": note,
        "name": name,
        "keep": keep,
        "rename": rename,
        "notebook": notebook,
        "delete": delete,
        "sure": sure,
        "question": question,
        "yes": yes,
        "no": no,
        "said": said,
    }


def _curves() -> Curves:
    gr.HTML(
        html.step(4, "Curves", "The lower the better; validation tells what holds for conversations never trained on.")
    )
    with gr.Row(elem_classes="fields"):
        shown = gr.Dropdown([], value=[], multiselect=True, max_choices=8, label="Runs", elem_id="eval_shown")
        which = gr.Dropdown(list(charts.CURVES), value="Both", label="Curves", elem_id="eval_which")
        x_axes = [(label, name) for name, label in X_LABELS.items()]
        x_axis = gr.Dropdown(x_axes, value="step", label="Across", elem_id="eval_x")
        smoothing = gr.Slider(0, 0.98, 0.6, step=0.02, label="Smoothing of training", elem_id="eval_smoothing")
        log = gr.Checkbox(value=False, label="Logarithmic scale", elem_id="eval_log")
    chart = gr.HTML(elem_id="eval_chart", padding=False)
    with gr.Row(elem_classes="buttons"):
        png = gr.Button("Download PNG", size="sm", elem_id="eval_png", scale=0, min_width=140)
        csv = gr.Button("Download CSV", size="sm", elem_id="eval_csv", scale=0, min_width=140)
        file = gr.DownloadButton(visible="hidden", elem_id="eval_file")
    code = show_code("eval_chart_code")
    return Curves(
        shown=shown,
        which=which,
        x_axis=x_axis,
        smoothing=smoothing,
        log=log,
        chart=chart,
        png=png,
        csv=csv,
        file=file,
        code=code,
    )
