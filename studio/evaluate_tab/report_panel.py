"""The report: a run, beside its base or another run, as one page that opens anywhere."""

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.report.writing import write_report
from nanochat_core.rows.said import said_of_rows
from nanochat_core.runs.run import Run
from studio.context import Context
from studio.parts import html
from studio.parts.events import QUIET, UNLIMITED, alerted, update_of
from studio.parts.showcode import show_code

_BASE = ("What it was trained from", "")
_DOWNLOAD = "() => document.querySelector('#eval_report_file').click()"


@dataclass(frozen=True)
class ReportPanel:
    """Its components."""

    compare: gr.Dropdown
    page: gr.Button
    text: gr.Button
    file: gr.DownloadButton
    code: gr.Code


def panel() -> ReportPanel:
    """Lay it out."""
    lead = "The chosen run on one page, to attach to a decision: scores, flips, cost, curves, data, how to repeat it."
    gr.HTML(html.step(5, "Report", lead), elem_id="eval_report_title")
    with gr.Row(elem_classes="fields"):
        compare = gr.Dropdown([_BASE], value="", label="Beside", elem_id="eval_report_compare")
    with gr.Row(elem_classes="buttons"):
        page = gr.Button(
            "Download as HTML", variant="primary", size="sm", elem_id="eval_report", scale=0, min_width=170
        )
        text = gr.Button("Download as Markdown", size="sm", elem_id="eval_report_text", scale=0, min_width=170)
        file = gr.DownloadButton(visible="hidden", elem_id="eval_report_file")
    return ReportPanel(compare, page, text, file, show_code("eval_report_code", label="Show the shell command"))


def wire(parts: ReportPanel, run: gr.Dropdown, context: Context) -> None:
    """Connect it; `run` is the list of runs above."""
    chosen = [run, parts.compare]
    gr.on([context.page.load, context.tab.select, run.change], others, chosen, parts.compare, **QUIET)
    gr.on([run.change, parts.compare.change], command, chosen, parts.code, **QUIET)
    for button, ending in ((parts.page, ".html"), (parts.text, ".md")):
        made = button.click(alerted(_making(ending)), chosen, parts.file, **UNLIMITED)
        made.success(None, None, None, js=_DOWNLOAD)


def others(tag: str | None, present: str | None) -> Any:
    """What the chosen run can stand beside."""
    choices = [_BASE, *((run.tag, run.tag) for run in Run.list() if run.tag != tag)]
    return update_of(present, present if present in [value for _, value in choices] else "", choices=choices)


def command(tag: str | None, compare: str | None) -> str:
    """The shell command that makes the same page."""
    if not tag:
        return ""
    name, beside = shlex.quote(tag), f" --compare {shlex.quote(compare)}" if compare else ""
    return f"python -m nanochat_core report --run {name}{beside} {shlex.quote(f'{tag}.html')}"


def make(ending: str, tag: str | None, compare: str | None) -> Path:
    """The report as a file. ValueError in a sentence."""
    if not tag:
        raise ValueError("No run is chosen. Choose one above.")
    name = f"{tag}-{compare}" if compare else tag
    return write_report(tag, compare or None, Path(tempfile.mkdtemp()) / f"{name}{ending}", said_of_rows)


def _making(ending: str) -> Any:
    def made(tag: str | None, compare: str | None) -> Any:
        return gr.DownloadButton(value=str(make(ending, tag, compare)))

    return made
