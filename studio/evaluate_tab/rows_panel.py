"""Which rows did it? What the data doctor says of a run's data, and the way to each row and to the review in Data."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.evaluation.questions import load_questions
from nanochat_core.rows.doctor import Report, examine
from nanochat_core.rows.findings import KINDS, Finding, Review
from nanochat_core.rows.kept_folds import kept_folds
from nanochat_core.rows.of_run import Told, told_by
from nanochat_core.rows.row import faults_left_out, lines_of, read_rows
from nanochat_core.runs.run import Run
from nanochat_core.system.words import plural
from studio.context import Context, wish
from studio.datasets.of_run import dataset_of
from studio.evaluate_tab.asking import Asking
from studio.parts import html
from studio.parts.events import AT_ONCE, QUIET, UNLIMITED, alerted, noted
from studio.parts.showcode import show_code
from studio.parts.working import Working
from studio.runs import live
from studio.runs.traced import open_button

FOLDS = (2, 3, 4, 5)
"""How many there may be: with more of them each model sees more of the rows, and all take longer."""
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
    fold: gr.Accordion
    folds: gr.Dropdown
    judge: gr.Button
    stop: gr.Button
    said: gr.HTML
    found: gr.HTML
    code: gr.Code


def panel(has_models: bool) -> RowsPanel:
    """Lay it out. has_models: whether this app can train models at all."""
    lead = "Rows that contradict or repeat each other, give a question away, were not learnt, or taught nothing new."
    gr.HTML(html.step(3, "Which rows did it?", lead), elem_id="eval_rows")
    with gr.Row(elem_classes="buttons"):
        look = gr.Button(
            "Examine this run's rows", variant="primary", size="sm", elem_id="eval_look", scale=0, min_width=190
        )
        begin = gr.Button("Review them one by one", size="sm", elem_id="eval_review", scale=0, min_width=190)
    title = "Judge each row by a model that has not seen it"
    with gr.Accordion(title, open=False, visible=has_models, elem_id="eval_fold") as fold:
        lead = (
            "The rows, as they are saved now, are dealt to folds. For each a small model is trained on all others and "
            "judges it: an answer that does not fit its question stands out. It takes minutes, goes on when this page "
            "is closed, and keeps what is done."
        )
        gr.HTML(html.lead(lead), padding=False)
        with gr.Row(elem_classes="fields"):
            folds = gr.Dropdown(list(FOLDS), value=3, label="Folds", elem_id="eval_folds")
        with gr.Row(elem_classes="buttons"):
            judge = gr.Button("Judge the rows", size="sm", elem_id="eval_judge", scale=0, min_width=190)
            stop = gr.Button("Stop", variant="stop", size="sm", elem_id="eval_judge_stop", scale=0, visible=False)
        said = gr.HTML(elem_id="eval_judge_said", padding=False)
    found = gr.HTML(elem_id="eval_found", padding=False, js_on_load=CLICKED)
    return RowsPanel(look, begin, fold, folds, judge, stop, said, found, show_code("eval_rows_code"))


def wire(parts: RowsPanel, run: gr.Dropdown, asking: Asking, context: Context) -> None:
    """Connect it; `run` is the list of runs above."""
    _wire_folds(parts, run, asking, context)
    looked = parts.look.click(noted(look, parts.found), run, [parts.found, parts.code], **UNLIMITED)
    parts.review.click(alerted(to_review), run, context.to_data, **QUIET)
    parts.found.act(opened, None, context.to_data, **QUIET)
    run.change(lambda: ("", ""), None, [parts.found, parts.code], cancels=looked, **QUIET)


def _wire_folds(parts: RowsPanel, run: gr.Dropdown, asking: Asking, context: Context) -> None:
    judged = gr.State("")  # the run whose rows were judged: by then, another one may be chosen
    shown = [parts.fold, parts.said, parts.judge, parts.stop, judged]
    began = parts.judge.click(partial(judge, asking), [run, parts.folds], shown, **UNLIMITED)
    # A page that was reloaded, or is opened elsewhere, shows what is under way.
    attached = context.page.load(partial(attach, asking), None, shown, **UNLIMITED)
    for event in (began, attached):
        event.then(noted(look_judged, parts.found), [judged, run], [parts.found, parts.code], **UNLIMITED)
    gr.on([run.change, context.tab.select], partial(kept_of, asking), run, parts.said, **QUIET)
    stopping = html.note("Stopping: the folds that are done are kept ...")
    parts.stop.click(lambda: stopping if asking.stop() else "", None, parts.said, **AT_ONCE)


def judge(asking: Asking, tag: str | None, folds: int) -> Iterator[list[Any]]:
    """Judge the rows of a run by models that have not seen them: (panel, progress, button, Stop, the run)."""
    try:
        path = _data_of(tag)
    except ValueError as error:
        yield [gr.skip(), html.note(str(error), "bad"), gr.skip(), gr.skip(), ""]
        return
    yield from _judging(tag or "", asking.fold(tag or "", str(path), int(folds)), asking)


def attach(asking: Asking) -> Iterator[list[Any]]:
    """What another page has begun, or this one before it was reloaded: as `judge`; nothing where nothing goes on."""
    task = asking.now("folds")
    if task is None:
        yield [gr.skip()] * 5
    else:
        yield from _judging(task.of, asking.watch(task), asking)


def _judging(tag: str, progress: Iterable[str], asking: Asking) -> Iterator[list[Any]]:
    try:
        # Once: what tells the panel anything draws all that is in it again, under whoever is about to press Stop.
        first = [gr.Accordion(open=True), gr.Button(interactive=False), gr.Button(visible=True)]
        for shown in progress:
            fold, button, stop = first
            yield [fold, shown, button, stop, ""]
            first = [gr.skip()] * 3
        said = _judged(tag) or html.note("Stopped before the first fold was done.")
    except ValueError as error:
        tag, said = "", html.note(str(error), "bad")
    # Who was refused because something else is going on may stop that.
    yield [gr.skip(), said, gr.Button(interactive=True), gr.Button(visible=asking.is_active), tag]


def kept_of(asking: Asking, tag: str | None) -> Any:
    """What is kept of the chosen run; how far it is stays there while something goes on."""
    if asking.now("folds") is not None:
        return gr.skip()
    return _judged(tag) if tag in live.run_tags() else ""


def _judged(tag: str) -> str:
    """What is kept by now; "" for nothing."""
    kept = kept_folds(Run.open(tag))
    if kept is None:
        return ""
    if kept.is_whole:
        said = f"All {plural(len(kept.rows), 'row')} of {tag} were judged, in {kept.folds} folds. What stands out is "
        return html.note(said + "among the findings.", "good")
    done = f"{len(kept.done)} of {kept.folds} folds of {tag} are done and kept."
    return html.note(f"{done} “Judge the rows” does the others.")


def look_judged(judged: str, tag: str | None) -> Iterator[tuple[Any, Any]]:
    """As `look`, after a run's rows were judged; nothing when that came to nothing or another run is chosen."""
    if judged and judged == tag:
        yield from look(tag)
    else:
        yield gr.skip(), gr.skip()


def look(tag: str | None) -> Iterator[tuple[Any, str]]:
    """Examine the rows of a run, showing how far it is: (findings, code). ValueError in a sentence."""
    path, questions = _data_of(tag), _questions_of(tag)
    asked = f", questions={questions!r}" if questions else ""
    kept = kept_folds(Run.open(tag or ""))
    folds = f", folds={kept.folds}" if kept is not None and kept.is_whole else ""
    code = f"from nanochat_core import review\n\nreview({str(path)!r}, run={tag!r}{folds}{asked})"
    looking = Working(lambda report: examined(path, tag or "", questions, report))
    for progress in looking:
        yield progress, code
    yield findings_html(looking.result(), str(path)), code


def examined(path: Path, tag: str, questions: str | None, report: Report = lambda fraction, text: None) -> Review:
    """As rows.review does for a run, with the folds that it has kept: new ones need torch."""
    rows, faults = read_rows(path)
    try:
        told = told_by(Run.open(tag), rows, lines_of(path, rows))
    except ValueError as error:
        told = Told([], [str(error)])
    asked = load_questions(questions) if questions else ()
    notes = [*faults_left_out(faults), *told.notes]
    return examine(rows, str(path), told.validating or (), asked, told.findings, notes, report)


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
    return dataset_of(Run.open(tag)).path


def _questions_of(tag: str | None) -> str | None:
    path = Run.open(tag or "").record().get("settings", {}).get("questions_path")
    return str(path) if path and Path(path).is_file() else None
