"""What happens in the Evaluate tab."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.runs.as_notebook import notebook_of
from nanochat_core.runs.run import Run
from studio.context import Context
from studio.evaluate_tab import charts
from studio.evaluate_tab.asking import Asking
from studio.evaluate_tab.fields import EvaluateFields
from studio.parts import html
from studio.parts.events import LATEST, QUIET, alerted, another, changes, noted, scrolling_to, update_of
from studio.runs import facts as run_facts
from studio.runs import live

LOOK_EVERY_SECONDS = 3.0
_DOWNLOAD = "() => document.querySelector('#eval_file').click()"
_FIRST_SHOWN = 3


def wire(fields: EvaluateFields, asking: Asking, context: Context) -> None:
    """Connect everything."""
    runs, curves = fields.runs, fields.curves
    pickers = [runs.sort, runs.run, curves.shown]
    lists = {"fn": refresh, "inputs": pickers, "outputs": [runs.table, *pickers[1:]], **QUIET}
    of_run = {"fn": about_run, "inputs": runs.run, "outputs": [runs.note, runs.name, runs.sure], **QUIET}
    look = [curves.shown, curves.which, curves.x_axis, curves.smoothing, curves.log]
    drawn = [curves.chart, curves.code]
    context.page.load(**lists)
    # What the page's load sets while the tab is not open yet fires no change, so what follows from it is drawn here.
    again = gr.State("")
    context.tab.select(**lists).then(another, None, again, **QUIET)
    runs.run.change(**of_run)
    wished = context.to_evaluate.change(
        wished_run, [context.to_evaluate, runs.sort], [runs.table, runs.run, curves.shown], **QUIET
    )
    wished.success(lambda: gr.Tabs(selected="evaluate"), None, context.tabs, **QUIET).then(
        None, context.to_evaluate, None, js=scrolling_to("wish[1] || null")
    )
    gr.on([runs.sort.input, runs.run.input], show_table, pickers[:2], runs.table, **QUIET)
    gr.on([again.change, *changes(look)], draw, look, drawn, **LATEST)
    _wire_actions(fields, asking, context, lists)
    seen = gr.State([])
    gr.Timer(LOOK_EVERY_SECONDS).tick(
        watch,
        [seen, *look, *pickers],
        [seen, curves.chart, runs.table, *pickers[1:]],
        queue=False,
        **QUIET,
    )
    for button, make in ((curves.png, png_file), (curves.csv, csv_file)):
        made = button.click(alerted(make), look, curves.file, **QUIET)
        made.success(None, None, None, js=_DOWNLOAD)
    notebook = runs.notebook.click(alerted(notebook_file), runs.run, curves.file, **QUIET)
    notebook.success(None, None, None, js=_DOWNLOAD)


def _wire_actions(fields: EvaluateFields, asking: Asking, context: Context, lists: dict[str, Any]) -> None:
    runs = fields.runs

    def loaded() -> list[str]:
        return [one.name for one in context.models.loaded()] if context.models is not None else []

    keep = runs.keep.click(noted(keep_note, runs.said), [runs.run, runs.note], runs.said, **QUIET)
    rename = runs.rename.click(
        noted(lambda run, name: rename_run(run, name, loaded(), asking.names), runs.said),
        [runs.run, runs.name],
        [runs.said, runs.run],
        **QUIET,
    )
    asked = gr.State("")  # which run the question names: by the time it is answered, another one may be chosen
    runs.delete.click(ask_delete, runs.run, [runs.sure, runs.question, runs.said, asked], **QUIET)
    runs.no.click(lambda: gr.Row(visible=False), None, runs.sure, **QUIET)
    delete = runs.yes.click(
        noted(lambda tag: delete_run(tag, loaded(), asking.names), runs.said), asked, [runs.sure, runs.said], **QUIET
    )
    for event in (keep, rename, delete):
        event.then(**lists)


def show_table(sort: str, run: str | None) -> str:
    """The table in another order, or with another run chosen."""
    return run_facts.table_html(run_facts.sorted_facts(run_facts.all_facts(), sort), run)


def wished_run(asked: list[str], sort: str) -> list[Any]:
    """(table, chosen run, runs with a curve) for a run that another tab wants to be shown."""
    if not asked or asked[0] not in (tags := live.run_tags()):
        return [gr.skip()] * 3
    tag = asked[0]
    return [show_table(sort, tag), *(gr.update(choices=tags, value=value) for value in (tag, [tag]))]


def refresh(sort: str, run: str, shown: list[str]) -> list[Any]:
    """The table and every list of runs as they are now; what is gone is no longer chosen."""
    tags = live.run_tags()
    kept = [tag for tag in shown or [] if tag in tags] or tags[:_FIRST_SHOWN]
    chosen = run if run in tags else (tags[0] if tags else None)
    return [show_table(sort, chosen), update_of(run, chosen, choices=tags), update_of(shown, kept, choices=tags)]


def watch(seen: list[Any], *values: Any) -> list[Any]:
    """What changed since this browser last looked: the list of runs and their states, and the shown curves."""
    look, pickers = values[:5], values[5:]
    facts = run_facts.all_facts()
    states = [list(one.row()) for one in facts]
    lengths = [[one.tag, one.steps] for one in facts if one.tag in (look[0] or [])]
    if [states, lengths] == seen:
        return [gr.skip()] * 5
    changed_runs = bool(seen) and seen[0] != states
    lists = refresh(*pickers) if changed_runs else [gr.skip()] * 3
    chart = draw(*look)[0] if bool(seen) and seen[1] != lengths else gr.skip()
    return [[states, lengths], chart, *lists]


def about_run(tag: str) -> tuple[str, str, Any]:
    """(note, name, question) of the chosen run, to edit; a question about the one that was chosen before goes."""
    run = next((run for run in Run.list() if run.tag == tag), None)
    return (*((run_facts.note_of(run), tag) if run else ("", "")), gr.Row(visible=False))


def draw(shown: list[str], which: str, x_axis: str, smoothing: float, log: bool) -> tuple[str, str]:
    """(chart, code) of the shown runs."""
    chart = charts.chart(charts.curves(shown or [], x_axis, which, smoothing), x_axis, log)
    axis = "time" if x_axis == "minutes" else x_axis
    code = "from nanochat_core import Run\n\n" + "".join(
        f"Run.open({tag!r}).metrics().plot(x={axis!r}, y=['train_loss', 'val_loss'], logy={log})\n"
        for tag in shown or []
    )
    return chart or html.empty("No curve yet", "Choose runs above; a run has a curve from its first step on."), code


def keep_note(tag: str, text: str) -> str:
    """Save the note."""
    run_facts.set_note(_chosen(tag), text or "")
    return html.note("The note is saved.", "good")


def rename_run(tag: str, name: str, loaded: list[str], asked: Sequence[str] = ()) -> tuple[str, Any]:
    """Rename the chosen run."""
    renamed = run_facts.rename(_chosen(tag), name or "", loaded, asked).tag
    said = html.note(f"{tag} is now called {renamed}.", "good")
    return said, gr.update(choices=live.run_tags(), value=renamed)


def ask_delete(tag: str) -> tuple[Any, str, str, str]:
    """Ask before a run goes: (row, question, said, the run that is asked about)."""
    if not tag:
        return gr.Row(visible=False), "", html.note("No run is chosen. Choose one first.", "bad"), ""
    question = html.note(f"Delete run {tag} with all its checkpoints? This cannot be undone.", "warn")
    return gr.Row(visible=True), question, "", tag


def delete_run(tag: str, loaded: list[str], asked: Sequence[str] = ()) -> tuple[Any, str]:
    """Delete the run that was asked about."""
    run_facts.delete(tag or "", loaded, asked)
    return gr.Row(visible=False), html.note(f"Run {tag} is deleted.", "good")


def png_file(shown: list[str], which: str, x_axis: str, smoothing: float, log: bool) -> Any:
    """The chart as a picture to download."""
    content = charts.png(charts.curves(_drawn(shown), x_axis, which, smoothing), x_axis, log)
    return gr.DownloadButton(value=_temporary("loss.png", content))


def notebook_file(tag: str) -> Any:
    """A notebook that repeats the chosen run, to download."""
    content = notebook_of(Run.open(_chosen(tag)))
    return gr.DownloadButton(value=_temporary(f"{tag}.ipynb", content.encode()))


def csv_file(shown: list[str], *_: Any) -> Any:
    """The shown runs' metrics to download."""
    return gr.DownloadButton(value=_temporary("loss.csv", charts.csv_text(_drawn(shown)).encode()))


def _chosen(tag: str | None) -> str:
    if not tag:
        raise ValueError("No run is chosen. Choose one first.")
    return tag


def _drawn(shown: list[str] | None) -> list[str]:
    if not shown:
        raise ValueError("No run is chosen under Curves. Choose one first.")
    return shown


def _temporary(name: str, content: bytes) -> str:
    path = Path(tempfile.mkdtemp()) / name
    path.write_bytes(content)
    return str(path)
