"""What happens in the Evaluate tab."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.runs.as_notebook import notebook_of
from nanochat_core.runs.run import Run
from studio.context import Context
from studio.evaluate_tab import charts, comparison
from studio.parts import html
from studio.parts.events import LATEST, QUIET, alerted, changes, noted
from studio.runs import facts as run_facts
from studio.runs import live

LOOK_EVERY_SECONDS = 3.0
_DOWNLOAD = "() => document.querySelector('#eval_file').click()"
_FIRST_SHOWN = 3


@dataclass
class EvaluateFields:
    """The components of the tab."""

    table: Any = None
    sort: Any = None
    run: Any = None
    note: Any = None
    name: Any = None
    keep: Any = None
    rename: Any = None
    notebook: Any = None
    delete: Any = None
    sure: Any = None
    question: Any = None
    yes: Any = None
    no: Any = None
    said: Any = None
    shown: Any = None
    which: Any = None
    x_axis: Any = None
    smoothing: Any = None
    log: Any = None
    chart: Any = None
    png: Any = None
    csv: Any = None
    file: Any = None
    chart_code: Any = None
    first: Any = None
    second: Any = None
    compared: Any = None
    pair: Any = None
    scores: Any = None
    pair_code: Any = None


def wire(fields: EvaluateFields, context: Context) -> None:
    """Connect everything."""
    pickers = [fields.sort, fields.run, fields.shown, fields.first, fields.second]
    lists = {"fn": refresh, "inputs": pickers, "outputs": [fields.table, *pickers[1:]], **QUIET}
    of_run = {"fn": about_run, "inputs": fields.run, "outputs": [fields.note, fields.name], **QUIET}
    look = [fields.shown, fields.which, fields.x_axis, fields.smoothing, fields.log]
    drawn = [fields.chart, fields.chart_code]
    pair = {
        "fn": compare,
        "inputs": [fields.first, fields.second, *look[1:]],
        "outputs": [fields.compared, fields.pair, fields.scores, fields.pair_code],
    }
    context.page.load(**lists)
    # What the page's load sets while the tab is not open yet fires no change, so what follows from it is drawn here.
    opened = context.tab.select(**lists)
    opened.then(**pair, **QUIET)
    opened.then(draw, look, drawn, **QUIET)
    fields.run.change(**of_run)
    gr.on([fields.sort.input, fields.run.input], show_table, pickers[:2], fields.table, **QUIET)
    gr.on(changes(look), draw, look, drawn, **LATEST)
    gr.on(changes([fields.first, fields.second, *look[1:]]), **pair, **LATEST)
    _wire_actions(fields, context, lists)
    seen = gr.State([])
    gr.Timer(LOOK_EVERY_SECONDS).tick(
        watch,
        [seen, *look, *pickers],
        [seen, fields.chart, fields.table, *pickers[1:]],
        queue=False,
        **QUIET,
    )
    for button, make in ((fields.png, png_file), (fields.csv, csv_file)):
        button.click(make, look, fields.file, **QUIET).then(None, None, None, js=_DOWNLOAD)
    notebook = fields.notebook.click(alerted(notebook_file), fields.run, fields.file, **QUIET)
    notebook.success(None, None, None, js=_DOWNLOAD)


def _wire_actions(fields: EvaluateFields, context: Context, lists: dict[str, Any]) -> None:
    def loaded() -> list[str]:
        return [one.name for one in context.models.loaded()] if context.models is not None else []

    keep = fields.keep.click(noted(keep_note, fields.said), [fields.run, fields.note], fields.said, **QUIET)
    rename = fields.rename.click(
        noted(lambda run, name: rename_run(run, name, loaded()), fields.said),
        [fields.run, fields.name],
        [fields.said, fields.run],
        **QUIET,
    )
    fields.delete.click(ask_delete, fields.run, [fields.sure, fields.question, fields.said], **QUIET)
    fields.no.click(lambda: gr.Row(visible=False), None, fields.sure, **QUIET)
    delete = fields.yes.click(
        noted(lambda run: delete_run(run, loaded()), fields.said), fields.run, [fields.sure, fields.said], **QUIET
    )
    for event in (keep, rename, delete):
        event.then(**lists)


def show_table(sort: str, run: str | None) -> str:
    """The table in another order, or with another run chosen."""
    return run_facts.table_html(run_facts.sorted_facts(run_facts.all_facts(), sort), run)


def refresh(sort: str, run: str, shown: list[str], first: str, second: str) -> list[Any]:
    """The table and every list of runs as they are now; what is gone is no longer chosen."""
    tags = live.run_tags()
    kept = [tag for tag in shown or [] if tag in tags] or tags[:_FIRST_SHOWN]
    chosen = run if run in tags else (tags[0] if tags else None)
    one = first if first in tags else (tags[1] if len(tags) > 1 else None)
    other = second if second in tags else (tags[0] if len(tags) > 1 else None)
    return [
        show_table(sort, chosen),
        gr.update(choices=tags, value=chosen),
        gr.update(choices=tags, value=kept),
        gr.update(choices=tags, value=one),
        gr.update(choices=tags, value=other),
    ]


def watch(seen: list[Any], *values: Any) -> list[Any]:
    """What changed since this browser last looked: the list of runs and their states, and the shown curves."""
    look, pickers = values[:5], values[5:]
    facts = run_facts.all_facts()
    states = [list(one.row()) for one in facts]
    lengths = [[one.tag, one.steps] for one in facts if one.tag in (look[0] or [])]
    if [states, lengths] == seen:
        return [gr.skip()] * 7
    changed_runs = bool(seen) and seen[0] != states
    lists = refresh(*pickers) if changed_runs else [gr.skip()] * 5
    chart = draw(*look)[0] if bool(seen) and seen[1] != lengths else gr.skip()
    return [[states, lengths], chart, *lists]


def about_run(tag: str) -> tuple[str, str]:
    """(note, name) of the chosen run, to edit."""
    if not tag:
        return "", ""
    run = next((run for run in Run.list() if run.tag == tag), None)
    return (run_facts.note_of(run), tag) if run else ("", "")


def draw(shown: list[str], which: str, x_axis: str, smoothing: float, log: bool) -> tuple[str, str]:
    """(chart, code) of the shown runs."""
    chart = charts.chart(charts.curves(shown or [], x_axis, which, smoothing), x_axis, log)
    axis = "time" if x_axis == "minutes" else x_axis
    code = "from nanochat_core import Run\n\n" + "".join(
        f"Run.open({tag!r}).metrics().plot(x={axis!r}, y=['train_loss', 'val_loss'], logy={log})\n"
        for tag in shown or []
    )
    return chart or html.empty("No curve yet", "Choose runs above; a run has a curve from its first step on."), code


def compare(first: str, second: str, which: str, x_axis: str, smoothing: float, log: bool) -> tuple[str, str, str, str]:
    """(differences, curves, scores, code) of two runs."""
    pair = [tag for tag in dict.fromkeys((first, second)) if tag]
    try:
        differences, scores = comparison.comparison_html(first, second), comparison.scores_html(pair)
    except ValueError as error:
        return html.note(str(error), "bad"), "", "", ""
    curves = charts.chart(charts.curves(pair, x_axis, which, smoothing), x_axis, log) if len(pair) == 2 else ""
    code = "".join(f"Run.open({tag!r}).record()  # settings, data version, base model\n" for tag in pair)
    return differences, curves, scores, f"from nanochat_core import Run\n\n{code}"


def keep_note(tag: str, text: str) -> str:
    """Save the note."""
    run_facts.set_note(tag or "", text or "")
    return html.note("The note is saved.", "good")


def rename_run(tag: str, name: str, loaded: list[str]) -> tuple[str, Any]:
    """Rename the chosen run."""
    renamed = run_facts.rename(tag or "", name or "", loaded).tag
    said = html.note(f"{tag} is now called {renamed}.", "good")
    return said, gr.update(choices=live.run_tags(), value=renamed)


def ask_delete(tag: str) -> tuple[Any, str, str]:
    """Ask before a run goes."""
    if not tag:
        return gr.Row(visible=False), "", html.note("No run is chosen. Choose one first.", "bad")
    question = html.note(f"Delete run {tag} with all its checkpoints? This cannot be undone.", "warn")
    return gr.Row(visible=True), question, ""


def delete_run(tag: str, loaded: list[str]) -> tuple[Any, str]:
    """Delete the chosen run."""
    run_facts.delete(tag or "", loaded)
    return gr.Row(visible=False), html.note(f"Run {tag} is deleted.", "good")


def png_file(shown: list[str], which: str, x_axis: str, smoothing: float, log: bool) -> Any:
    """The chart as a picture to download."""
    content = charts.png(charts.curves(shown or [], x_axis, which, smoothing), x_axis, log)
    return gr.DownloadButton(value=_temporary("loss.png", content))


def notebook_file(tag: str) -> Any:
    """A notebook that repeats the chosen run, to download."""
    content = notebook_of(Run.open(tag or ""))
    return gr.DownloadButton(value=_temporary(f"{tag}.ipynb", content.encode()))


def csv_file(shown: list[str], *_: Any) -> Any:
    """The shown runs' metrics to download."""
    return gr.DownloadButton(value=_temporary("loss.csv", charts.csv_text(shown or []).encode()))


def _temporary(name: str, content: bytes) -> str:
    path = Path(tempfile.mkdtemp()) / name
    path.write_bytes(content)
    return str(path)
