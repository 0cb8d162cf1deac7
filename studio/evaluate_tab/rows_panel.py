"""Which rows did it? What the data doctor says of a run's data, and the way to each row and to the review in Data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.evaluation.questions import load_questions
from nanochat_core.rows.doctor import Report, examine
from nanochat_core.rows.findings import KINDS, Finding, Review
from nanochat_core.rows.losses import findings_of_run
from nanochat_core.rows.record import record_of
from nanochat_core.rows.row import read_rows
from nanochat_core.runs.run import Run
from nanochat_core.system.words import plural
from studio.context import Context, wish
from studio.datasets.files import list_datasets
from studio.parts import html
from studio.parts.events import QUIET, UNLIMITED, alerted, noted
from studio.parts.showcode import show_code
from studio.parts.working import Working
from studio.runs.traced import open_button

SHOWN = 10
"""Findings that are listed here; the review has all."""
CLICKED = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) trigger("act", { ...button.dataset });
});
"""
"""Tells of a click on a button in HTML what its data-... attributes say."""


@dataclass(frozen=True)
class RowsPanel:
    """Its components."""

    look: gr.Button
    review: gr.Button
    found: gr.HTML
    code: gr.Code


def panel() -> RowsPanel:
    """Lay it out."""
    lead = "Rows that contradict or repeat each other, give a question away, were not learnt, or taught nothing new."
    gr.HTML(html.step(3, "Which rows did it?", lead), elem_id="eval_rows")
    with gr.Row(elem_classes="buttons"):
        look = gr.Button(
            "Examine this run's rows", variant="primary", size="sm", elem_id="eval_look", scale=0, min_width=190
        )
        begin = gr.Button("Review them one by one", size="sm", elem_id="eval_review", scale=0, min_width=190)
    found = gr.HTML(elem_id="eval_found", padding=False, js_on_load=CLICKED)
    return RowsPanel(look, begin, found, show_code("eval_rows_code"))


def wire(parts: RowsPanel, run: gr.Dropdown, context: Context) -> None:
    """Connect it; `run` is the list of runs above."""
    looked = parts.look.click(noted(look, parts.found), run, [parts.found, parts.code], **UNLIMITED)
    parts.review.click(alerted(to_review), run, context.to_data, **QUIET)
    parts.found.act(opened, None, context.to_data, **QUIET)
    run.change(lambda: ("", ""), None, [parts.found, parts.code], cancels=looked, **QUIET)


def look(tag: str | None) -> Iterator[tuple[Any, str]]:
    """Examine the rows of a run, showing how far it is: (findings, code). ValueError in a sentence."""
    path, questions = _data_of(tag), _questions_of(tag)
    asked = f", questions={questions!r}" if questions else ""
    code = f"from nanochat_core import review\n\nreview({str(path)!r}, run={tag!r}{asked})"
    looking = Working(lambda report: examined(path, tag or "", questions, report))
    for progress in looking:
        yield progress, code
    yield findings_html(looking.result(), str(path)), code


def examined(path: Path, tag: str, questions: str | None, report: Report = lambda fraction, text: None) -> Review:
    """As rows.review does for a run, without the folds, which need torch."""
    rows, _ = read_rows(path)
    lines = path.read_bytes().split(b"\n")
    more: list[Finding] = []
    notes: tuple[str, ...]
    try:
        record = record_of(Run.open(tag), [lines[row.line - 1] for row in rows])
    except ValueError as error:
        notes, validating = (str(error),), []
    else:
        notes, validating = record.notes, record.validating
        more = [*findings_of_run(rows, record.losses)]
    return examine(rows, str(path), validating, load_questions(questions) if questions else (), more, notes, report)


def findings_html(found: Review, path: str) -> str:
    """How many findings of each kind, and the gravest with their evidence."""
    notes = "".join(html.note(text) for text in found.notes)
    if not found.findings:
        return html.note(f"{plural(found.rows, 'row')}, and nothing to look at.", "good") + notes
    counts = {KINDS[kind]: f"{found.counts[kind]:,}" for kind in KINDS if kind in found.counts}
    listed = "".join(_finding(one, path) for one in found.findings[:SHOWN])
    left = len(found.findings) - SHOWN
    more = html.note(f"And {plural(left, 'more finding')}: review them one by one.") if left > 0 else ""
    return f'{html.facts(counts)}<ol class="findings">{listed}</ol>{more}{notes}'


def _finding(one: Finding, path: str) -> str:
    buttons = "".join(open_button(path, line) for line in one.lines[:3])
    return f"<li><b>{html.escape(KINDS[one.kind])}</b> {html.escape(one.reason)}<div>{buttons}</div></li>"


def to_review(tag: str | None) -> list[str]:
    """The wish to have a run's data reviewed in Data, with the run's record. ValueError when it is not there."""
    return wish(str(_data_of(tag)), "", tag or "", _questions_of(tag) or "")


def opened(told: gr.EventData) -> list[str]:
    """The wish to have a line opened in Data, from a click on its button."""
    return wish(str(told._data["dataset"]), str(told._data["line"]))


def _data_of(tag: str | None) -> Path:
    if not tag:
        raise ValueError("No run is chosen. Choose one above.")
    path = Path(Run.open(tag).record().get("data", {}).get("path", ""))
    if path not in [dataset.path for dataset in list_datasets()]:
        raise ValueError(f"The dataset {path.name} of run {tag} is not there any more: put it back into data/.")
    return path


def _questions_of(tag: str | None) -> str | None:
    path = Run.open(tag or "").record().get("settings", {}).get("questions_path")
    return str(path) if path and Path(path).is_file() else None
