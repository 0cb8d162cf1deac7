"""The lower half of the Train tab: one run live, read from its directory alone, so that any browser can join."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from nanochat_core.runs.run import Run
from studio.context import Context, wish
from studio.parts import html
from studio.parts.events import AT_ONCE, QUIET, noted, update_of
from studio.parts.showcode import show_code
from studio.runs import launching, live, stops
from studio.train_tab import before_start
from studio.train_tab.fields import TrainFields

POLL_SECONDS = 1.0


@dataclass
class WatchPanel:
    """The components of the lower half."""

    picker: gr.Dropdown


def build(context: Context, fields: TrainFields) -> WatchPanel:
    """Lay it out and wire it."""
    picker = gr.Dropdown(before_start.run_choices(), value="", label="Run", elem_id="watch_run")
    status = gr.HTML(live.NOTHING.status, elem_id="watch_status", padding=False)
    with gr.Row(elem_classes="buttons"):
        stop = gr.Button("Stop and save", variant="stop", visible=False, elem_id="watch_stop", scale=0, min_width=150)
        resume = gr.Button("Resume", variant="primary", visible=False, elem_id="watch_resume", scale=0, min_width=130)
        retry = gr.Button("Retry", visible=False, elem_id="watch_retry", scale=0, min_width=290)
    with gr.Row(visible=False, elem_classes="buttons", elem_id="watch_sure") as sure:
        question = gr.HTML(elem_id="watch_question", padding=False)
        yes = gr.Button("Yes, stop and save", variant="stop", elem_id="watch_stop_yes", scale=0, min_width=160)
        no = gr.Button("Keep training", elem_id="watch_stop_no", scale=0, min_width=130)
    with gr.Row(visible=False, elem_classes="buttons", elem_id="watch_next") as following:
        chat = gr.Button("Chat: base beside tuned", variant="primary", elem_id="watch_chat", scale=0, min_width=200)
        evaluate = gr.Button("Did it get better?", elem_id="watch_evaluate", scale=0, min_width=160)
        doctor = gr.Button("Which rows did it?", elem_id="watch_rows", scale=0, min_width=160)
    said = gr.HTML(elem_id="watch_said", padding=False)
    with gr.Row(elem_classes="watch"):
        chart = gr.HTML(elem_id="watch_chart", padding=False, min_height=0)
        log = gr.HTML(elem_id="watch_log", padding=False)
    code = show_code("watch_code")
    seen, asked = gr.State([]), gr.State("")
    timer = gr.Timer(POLL_SECONDS)

    shown = [
        status,
        chart,
        log,
        stop,
        resume,
        retry,
        following,
        code,
        fields.starting.waiting,
        fields.starting.clear,
        picker,
        seen,
    ]
    polled: dict[str, Any] = {"fn": poll, "inputs": [picker, seen], "outputs": shown, **AT_ONCE}
    timer.tick(**polled)
    context.page.load(**polled)
    picker.input(**polled)
    stop.click(ask_stop, picker, [sure, question, asked], **AT_ONCE)
    gr.on([no.click, picker.input], lambda: gr.Row(visible=False), None, sure, **AT_ONCE)
    yes.click(stop_run, asked, [sure, said], **AT_ONCE)
    resume.click(noted(resume_run, said), picker, said, **QUIET)
    retry.click(noted(retry_run, said), picker, [said, picker], **QUIET)
    chat.click(partial(ask_for, ""), picker, context.to_chat, **QUIET)
    evaluate.click(partial(ask_for, "#eval_better"), picker, context.to_evaluate, **QUIET)
    doctor.click(partial(ask_for, "#eval_rows"), picker, context.to_evaluate, **QUIET)
    return WatchPanel(picker)


def poll(tag: str, seen: list[Any]) -> list[Any]:
    """Everything that changed since this browser last asked; nothing is sent of what did not."""
    try:
        view = live.look(live.followed(tag or ""))
        waiting = before_start.queue_html()
    except ValueError as error:
        return [html.note(str(error), "bad"), *[gr.skip()] * 10, []]
    now = [hash(view.signature), waiting, live.tags_signature()]
    was = seen if len(seen) == len(now) else [None] * len(now)
    shown = _shown(view) if now[0] != was[0] else [gr.skip()] * 8
    queue = [waiting, gr.Button(visible=bool(waiting))] if now[1] != was[1] else [gr.skip()] * 2
    runs = _runs(tag) if now[2] != was[2] else gr.skip()
    return [*shown, *queue, runs, gr.skip() if now == seen else now]


def _shown(view: live.View) -> list[Any]:
    return [
        view.status,
        view.chart,
        view.log,
        gr.Button(visible=view.can_stop),
        gr.Button(visible=view.can_resume),
        gr.Button(view.retry or "Retry", visible=bool(view.retry)),
        gr.Row(visible=view.has_model),
        before_start.watch_code(view.tag) if view.tag else "",
    ]


def _runs(tag: str) -> Any:
    """The list of runs as it is now; one that is gone is no longer chosen."""
    choices = before_start.run_choices()
    return update_of(tag, tag if tag in [value for _, value in choices] else "", choices=choices)


def ask_for(place: str, tag: str) -> list[str]:
    """The wish to have the shown run opened in another tab, there at `place`."""
    return wish(live.followed(tag or ""), place)


def ask_stop(tag: str) -> tuple[Any, str, str]:
    """Ask before the shown run is stopped: (row, question, that run). The next one may be shown by the answer."""
    shown = live.followed(tag or "")
    question = f"Finish the step of run {shown}, save a checkpoint and stop? It can be resumed."
    return gr.Row(visible=bool(shown)), html.note(question, "warn"), shown


def stop_run(tag: str) -> tuple[Any, str]:
    """Ask the run that was asked about to save and stop; what it does then is shown by the poll."""
    run = next((run for run in Run.list() if run.tag == tag), None)
    if run is None or not launching.is_active(run):
        return gr.Row(visible=False), html.note(f"Run {tag} has ended meanwhile; no other one was stopped.")
    stops.stop(run)
    return gr.Row(visible=False), ""


def resume_run(tag: str) -> str:
    """Resume the shown run."""
    run = launching.resume(live.followed(tag or ""))
    return html.note(f"Run {run.tag} resumes from its last checkpoint.", "good")


def retry_run(tag: str) -> tuple[str, Any]:
    """Start the failed run again with the change that its status names."""
    run = launching.retry(live.followed(tag or ""))
    said = html.note(f"Started again as {run.tag}.", "good")
    return said, gr.update(choices=before_start.run_choices(), value="")
