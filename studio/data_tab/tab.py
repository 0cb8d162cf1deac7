"""The Data tab: pick or upload a dataset, read and edit it, fix its problems, save it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from studio.context import Context
from studio.data_tab import acts, confirm, draw, handlers, hub_panel, review_panel, view
from studio.data_tab import controls as data_controls
from studio.data_tab import editor as data_editor
from studio.data_tab.code import NAMES
from studio.data_tab.editor import FLUSH
from studio.datasets import sessions
from studio.parts.events import AT_ONCE, LATEST, QUIET, UNLIMITED, alerted, changes, scrolling_to
from studio.parts.html import step
from studio.parts.showcode import show_code
from studio.parts.uploads import removed_after

_EDIT = "Click a conversation and type in its bubbles. The model learns the assistant's words."


@dataclass(frozen=True)
class Parts:
    """What the wiring connects: the controls, and what the page remembers."""

    at: gr.State
    """Which dataset and which of its conversations are open."""
    fresh: gr.State
    """Another number when the page is to be drawn again at the same place."""
    mine: gr.BrowserState
    """What this browser has opened, so that a reload of the page finds unsaved work again."""
    page: gr.State
    listed: gr.State
    files: data_controls.Files
    saving: data_controls.Saving
    listing: data_controls.Listing
    measures: data_controls.Measures
    fixing: data_controls.Fixing
    history: data_controls.History
    tokens: gr.HTML

    @property
    def how(self) -> list[Component]:
        return [self.measures.model, self.measures.longest, self.measures.split]

    @property
    def query(self) -> list[Component]:
        return [self.listing.search, self.listing.show, self.listing.sort]

    @property
    def shown(self) -> list[Component]:
        listing = self.listing
        return [listing.rows, listing.note, listing.previous, listing.next, self.page, self.listed]


def said(function: Callable[..., tuple[Any, str]]) -> Callable[..., Any]:
    """A handler that returns a sentence beside its result; the sentence is shown for a moment."""

    @wraps(function)
    def saying(*arguments: Any) -> Any:
        result, sentence = alerted(function)(*arguments)
        if sentence:
            gr.Info(sentence)
        return result

    return saying


def build(context: Context) -> None:
    """Lay out the tab and wire it. Whatever a person does changes `at`, and its change draws the page."""
    at, page, listed, draft = gr.State(dict(handlers.NOWHERE)), gr.State(0), gr.State([]), gr.State("")
    mine, fresh = (
        gr.BrowserState({"session": "", "opened": []}, storage_key="nanochat-studio-data", secret="data"),
        gr.State(0),
    )
    code = {}
    files = data_controls.files(context.max_upload)
    hub_panel.build(at)
    code["bring"] = show_code("data-code-bring")
    saving = data_controls.saving()
    # Seen while nothing is open: see data_style.css.
    example = gr.Button("Open the example", variant="primary", elem_id="data-example", min_width=170)
    code["save"] = show_code("data-code-save")
    with gr.Column(elem_id="data-open"):  # not seen before something is open: see data_style.css
        gr.HTML(step(2, "Read and edit", _EDIT), padding=False)
        with gr.Row(elem_id="data-work", equal_height=False):
            with gr.Column(scale=2, min_width=300):
                listing = data_controls.listing()
            with gr.Column(scale=3, min_width=320):
                editor = data_editor.editor()
                gr.HTML('<h3 class="data-subtitle">What the model is trained on</h3>', padding=False)
                measures = data_controls.measures()
                tokens = gr.HTML(elem_id="data-tokens", padding=False)
                code["tokens"] = show_code("data-code-tokens")
        fixing = data_controls.fixing()
        code["fix"] = show_code("data-code-fix")
        review = review_panel.build(at)
        history = data_controls.history()
        code["whole"] = show_code("data-code-whole")
    parts = Parts(at, fresh, mine, page, listed, files, saving, listing, measures, fixing, history, tokens)
    how = parts.how
    _wire_drawing(parts)
    _wire_editor(at, editor, [listed, *how], [saving.status, tokens, saving.save, saving.undo, listing.rows])
    shown_code = [code[name] for name in NAMES]
    gr.on([at.change, fresh.change, *changes(how)], draw.code, [at, *how], shown_code, **QUIET)
    _wire_list(parts)
    # The dataset that a question on the page is about: by the time it is answered, another one may be open.
    asked = gr.State("")
    at.change(confirm.of_another, [at, asked], [files.delete_row, saving.conflict], **QUIET)
    _wire_files(at, asked, files)
    example.click(alerted(handlers.open_example), at, at, **QUIET)
    _wire_saving(at, asked, saving)
    _wire_drafts(at, saving, draft)
    _wire_fixing(at, fixing, history)
    measures.model.input(view.longest_of, measures.model, measures.longest, **QUIET)
    context.page.load(_restore, [at, mine], at, **QUIET)
    # Other tabs add datasets, rows and runs. `at` is written only when it has to be: written from what it was when the
    # page began to load, it would undo a person's first click.
    context.tab.select(_reread, at, at, **QUIET)
    gr.on([context.page.load, context.tab.select], handlers.another_tick, None, fresh, **QUIET)
    _wire_wishes(at, review, context)
    at.change(_remember, [at, mine, context.dataset], [mine, context.dataset], **QUIET)


def _wire_wishes(at: gr.State, review: review_panel.Review, context: Context) -> None:
    """Another tab asks for a line, or for the review of a run's data."""
    wish = context.to_data
    opened = wish.change(alerted(handlers.open_line), [at, wish], at, **QUIET)
    chosen = [review.run, review.questions]
    shown = opened.success(lambda: gr.Tabs(selected="data"), None, context.tabs, **QUIET).then(
        review_panel.wished, [at, wish], chosen, **QUIET
    )
    shown.then(None, wish, None, js=scrolling_to("wish[1] ? '#data-editor' : '#data-review'"))
    shown.then(alerted(review_panel.look_wished), [at, wish, *chosen], review.looked, **UNLIMITED)


def _wire_drawing(parts: Parts) -> None:
    """Everything but the editor is drawn by one handler, so that no two controls contradict each other."""
    at, saving, fixing, how = parts.at, parts.saving, parts.fixing, parts.how
    timer = gr.Timer(1, active=False)
    outputs: list[Block] = [parts.files.pick, saving.status, saving.save, saving.undo, *parts.shown]
    outputs += [fixing.everything, fixing.tools, fixing.kind, fixing.fix_all, fixing.jump, fixing.problems]
    outputs += [parts.tokens, parts.history.overview, parts.history.version, timer]
    inputs = [at, parts.mine, parts.page, *parts.query, *how, fixing.kind]
    at.change(_draw, inputs, outputs, **QUIET)
    gr.on([parts.fresh.change, fixing.kind.input, *changes(how)], _redraw, inputs, outputs, **QUIET)
    counted = [*parts.shown, parts.history.overview, timer]
    timer.tick(_tick, [at, parts.page, *parts.query, *how], counted, **AT_ONCE)


def _wire_editor(at: gr.State, editor: gr.HTML, inputs: list[Any], outputs: list[Any]) -> None:
    at.change(data_editor.drawn, at, editor, **QUIET)
    editor.typed(_typed, [at, *inputs], outputs, queue=False, **LATEST)
    editor.act(_acted, at, at, trigger_mode="multiple", **QUIET)


def _wire_drafts(at: gr.State, saving: data_controls.Saving, draft: gr.State) -> None:
    at.change(draw.draft, at, [saving.draft, saving.draft_text, draft], **QUIET)
    saving.draft_take.click(alerted(handlers.restore_draft), [at, draft], at, js=FLUSH, **QUIET)
    saving.draft_discard.click(said(handlers.discard), [at, draft], at, **QUIET)


def _wire_list(parts: Parts) -> None:
    at, listing, shown = parts.at, parts.listing, parts.shown
    inputs = [at, parts.page, *parts.query, *parts.how]
    gr.on([listing.search.change, listing.show.input, listing.sort.input], _searched, inputs, shown, **LATEST)
    listing.previous.click(_previous, inputs, shown, **QUIET)
    listing.next.click(_next, inputs, shown, **QUIET)
    # Either may be missing after the server has set the value; a second one of the same row changes nothing.
    gr.on([listing.rows.input, listing.rows.select], alerted(handlers.choose), [at, listing.rows], at, **QUIET)


def _wire_files(at: gr.State, asked: gr.State, files: data_controls.Files) -> None:
    files.pick.input(alerted(handlers.pick), [at, files.pick], at, api_visibility="private")
    sent = files.upload.upload(alerted(_uploaded), [at, files.upload], [at, files.upload], api_visibility="private")
    sent.failure(lambda: None, None, files.upload, **QUIET)  # what was refused would keep the next file out
    files.new.click(alerted(handlers.create), [at, files.name], at, **QUIET)
    files.duplicate.click(alerted(handlers.duplicate), at, at, **QUIET)
    files.rename.click(alerted(handlers.rename), [at, files.name], at, **QUIET)
    question = [files.delete_row, files.delete_question, asked]
    files.delete.click(alerted(confirm.ask_delete), at, question, **QUIET)
    files.delete_yes.click(said(confirm.delete), [at, asked], at, **QUIET)
    gr.on([files.delete_yes.click, files.delete_no.click], lambda: gr.Row(visible=False), None, question[0], **QUIET)
    # A DownloadButton's first click would only make the file; so a plain button does, and then clicks the other one.
    made = files.download.click(alerted(handlers.download), at, files.download_file, js=FLUSH, **QUIET)
    made.success(None, None, None, js="() => document.querySelector('#data-download-file').click()")


def _wire_saving(at: gr.State, asked: gr.State, saving: data_controls.Saving) -> None:
    conflict = [saving.conflict, saving.conflict_text, saving.save_name, asked]
    saving.save.click(alerted(confirm.save), at, [at, *conflict], js=FLUSH, **QUIET)
    saving.save_as.click(alerted(confirm.save_as), [at, saving.save_name, asked], [at, *conflict], js=FLUSH, **QUIET)
    saving.reload.click(alerted(confirm.reload), [at, asked], [at, *conflict], **QUIET)
    saving.conflict_close.click(confirm.no_conflict, None, conflict, **QUIET)
    saving.undo.click(alerted(lambda at: handlers.undo(at)[0]), at, at, js=FLUSH, **QUIET)


def _wire_fixing(at: gr.State, fixing: data_controls.Fixing, history: data_controls.History) -> None:
    fixing.everything.click(said(handlers.fix_everything), at, at, js=FLUSH, **QUIET)
    fixing.problems.act(_problem_clicked, at, at, trigger_mode="multiple", **QUIET)
    fixing.fix_all.click(said(handlers.fix_all), [at, fixing.kind], at, js=FLUSH, **QUIET)
    fixing.jump.input(alerted(handlers.choose), [at, fixing.jump], at, **QUIET)
    history.version.input(_compared, [at, history.version], history.difference, **QUIET)
    history.restore.click(alerted(handlers.restore), [at, history.version], at, **QUIET)


# Handlers that speak gradio


def _redraw(at: dict[str, Any], mine: dict[str, Any], number: int | None, *controls: Any) -> tuple[Any, ...]:
    """Everything but the editor; the list stays at its page."""
    *query, model, longest, split, kind = controls
    session, how = sessions.get(at["session"]), draw.measure(model, longest, split)
    is_counting, hindrance = draw.count(session, how) if session else (False, "")
    return (
        draw.pick(at, mine),
        view.status(session),
        *draw.buttons(session),
        *draw.the_list(session, at, tuple(query), how, number),
        *draw.fixing(session, kind),
        *draw.rest(session, at, how, hindrance),
        gr.Timer(active=is_counting),
    )


def _draw(at: dict[str, Any], mine: dict[str, Any], number: int, *controls: Any) -> tuple[Any, ...]:
    """Everything but the editor; the list goes to the page of the shown conversation."""
    return _redraw(at, mine, None, *controls)


def _tick(at: dict[str, Any], number: int, text: str, show: str, sort: str, *how: Any) -> tuple[Any, ...]:
    """While the tokens are being counted: the numbers that grow."""
    session, measure = sessions.get(at["session"]), draw.measure(*how)
    if session is None:
        return *_paged(at, number, (text, show, sort), how), gr.skip(), gr.Timer(active=False)
    is_counting, hindrance = draw.count(session, measure)
    overview = draw.rest(session, at, measure, hindrance)[1]
    return *_paged(at, number, (text, show, sort), how), overview, gr.Timer(active=is_counting)


def _typed(at: dict[str, Any], listed: list[int], *how: Any) -> tuple[Any, ...]:
    session = sessions.get(at["session"])
    if session is None or not session.has(at["row"]):
        return (gr.skip(),) * 5
    return draw.typed(session, at, listed, draw.measure(*how))


def _acted(at: dict[str, Any], told: gr.EventData) -> dict[str, Any]:
    return alerted(acts.act)(at, told._data)


def _problem_clicked(at: dict[str, Any], told: gr.EventData) -> dict[str, Any]:
    return alerted(handlers.problem_clicked)(at, told._data)


def _paged(at: dict[str, Any], number: int, query: tuple[Any, ...], how: tuple[Any, ...]) -> tuple[Any, ...]:
    return draw.the_list(sessions.get(at["session"]), at, query, draw.measure(*how), number)


def _searched(at: dict[str, Any], number: int, text: str, show: str, sort: str, *how: Any) -> tuple[Any, ...]:
    return _paged(at, 0, (text, show, sort), how)


def _previous(at: dict[str, Any], number: int, text: str, show: str, sort: str, *how: Any) -> tuple[Any, ...]:
    return _paged(at, number - 1, (text, show, sort), how)


def _next(at: dict[str, Any], number: int, text: str, show: str, sort: str, *how: Any) -> tuple[Any, ...]:
    return _paged(at, number + 1, (text, show, sort), how)


def _uploaded(at: dict[str, Any], path: str) -> tuple[dict[str, Any], None]:
    with removed_after(path) as file:
        return handlers.upload(at, str(file)), None


def _compared(at: dict[str, Any], version: str) -> str:
    return view.compare(sessions.get(at["session"]), version)


def _reread(at: dict[str, Any]) -> Any:
    """The file, read again when another tab has added to it."""
    session = sessions.get(at["session"])
    return handlers.refreshed(at) if session and session.is_outdated() else gr.skip()


def _restore(at: dict[str, Any], mine: dict[str, Any]) -> Any:
    """After a reload of the page: the work that this browser had open, if the app or the disk still has it."""
    session = sessions.get(mine["session"])
    return gr.skip() if session is None or at["session"] else handlers.opened(at, session)


def _remember(at: dict[str, Any], mine: dict[str, Any], dataset: str) -> tuple[dict[str, Any], str]:
    opened = [at["session"], *(one for one in mine["opened"] if one != at["session"])][: sessions.MAX_SESSIONS]
    return {"session": at["session"], "opened": [one for one in opened if one]}, at["source"] or dataset
