"""From an opened dataset to what each control of the Data tab shows: plain functions that return gradio updates."""

from dataclasses import astuple
from typing import Any

import gradio as gr

from nanochat_core.system.words import plural
from studio.data_tab import handlers, view
from studio.data_tab.code import codes
from studio.data_tab.overview import overview_html
from studio.data_tab.view import Measure
from studio.datasets import sessions
from studio.datasets.counting import counter_of, uncounted
from studio.datasets.index import PAGE, Page, label_of, page
from studio.datasets.problems import fix_label
from studio.datasets.session import Session
from studio.parts.html import empty, note


def measure(model: str | None, longest: float | None, split: float | None) -> Measure:
    """The three controls as a Measure; what is out of range becomes the nearest that is not."""
    return Measure(model or "", max(8, int(longest or 2048)), min(max(split or 0.1, 0.01), 0.9))


def buttons(session: Session | None) -> tuple[Any, Any]:
    """Save and Undo, as far as there is something to save or to undo."""
    label = session.undo_label if session else ""
    return (
        gr.update(interactive=bool(session and session.is_dirty)),
        gr.update(value=f"Undo {label}" if label else "Undo", interactive=bool(label)),
    )


def typed(session: Session, at: dict[str, Any], listed: list[int], how: Measure) -> tuple[Any, ...]:
    """After keys in a bubble: status, tokens, Save, Undo, the list's labels. The bubbles are left alone."""
    shown = view.status(session), view.tokens_html(session, at["row"], how), *buttons(session)
    with session.lock:
        choices = [(label_of(session.rows, row), row) for row in listed]
    return *shown, gr.update(choices=choices, value=at["row"] if at["row"] in listed else None)


def pick(at: dict[str, Any], mine: dict[str, Any]) -> Any:
    """The list of datasets, the opened one chosen."""
    session = sessions.get(at["session"])
    choices = handlers.choices([*mine["opened"], at["session"]])
    values = [value for _, value in choices]
    unsaved = handlers.UNSAVED + at["session"]
    value = unsaved if unsaved in values else at["source"] if at["source"] in values and session else None
    return gr.update(choices=choices, value=value)


def the_list(
    session: Session | None, at: dict[str, Any], query: tuple[Any, ...], how: Measure, number: int | None
) -> tuple[Any, ...]:
    """(radio, note, previous, next, page number, its rows); with the shown conversation when `number` is None."""
    if session is None:
        return gr.update(choices=[], value=None), "", gr.update(interactive=False), gr.update(interactive=False), 0, []
    with session.lock:
        found = session.find(handlers.query_of(*query), how.max_seq_len)
        if number is None:
            number = found.index(at["row"]) // PAGE if at["row"] in found else 0
        shown = page(session.rows, found, number)
    choices = [(label, row) for row, label in shown.rows]
    value = at["row"] if at["row"] in [row for row, _ in shown.rows] else None
    return (
        gr.update(choices=choices, value=value),
        _list_note(session, shown),
        gr.update(interactive=shown.number > 0),
        gr.update(interactive=shown.number < shown.pages - 1),
        shown.number,
        [row for row, _ in shown.rows],
    )


def _list_note(session: Session, shown: Page) -> str:
    if not shown.found:
        return empty("Nothing found", "Search for other words, or show all.")
    first = shown.number * PAGE + 1
    of_all = "" if shown.found == len(session.rows.order) else f" found among {len(session.rows.order):,}"
    text = f"{first:,} to {first + len(shown.rows) - 1:,} of {plural(shown.found, 'conversation')}{of_all}"
    return f'<div class="data-heading">{text}</div>'


def draft(at: dict[str, Any]) -> tuple[Any, ...]:
    """(its column, the question, which draft) for unsaved changes that were found on disk."""
    found = handlers.drafts(at)
    if not found:
        return gr.update(visible=False), "", ""
    return gr.update(visible=True), view.draft_question(found), found[0].id


def fixing(session: Session | None, kind: str) -> tuple[Any, ...]:
    """(fix everything, their column, kinds, fix all of a kind, go to, problems)."""
    kinds = view.kind_choices(session)
    kind = kind if kind in [value for _, value in kinds] else ""
    label = fix_label(kind)
    everything, fixable = view.fix_everything_label(session)
    fix = gr.update(value=f"{label}: all of this kind" if label else "Fix all of this kind", interactive=bool(label))
    jumps = gr.update(choices=view.problem_choices(session, kind), value=None)
    return (
        gr.update(value=everything, interactive=fixable > 0, visible=fixable > 0),
        gr.update(visible=len(kinds) > 1),
        gr.update(choices=kinds, value=kind),
        fix,
        jumps,
        view.problems_html(session, kind),
    )


def count(session: Session, how: Measure) -> tuple[bool, str]:
    """Have the tokens counted; (whether that still runs in the background, what hinders it)."""
    try:
        counter_of(session).start(session, how.model, how.max_seq_len)
    except ValueError as error:
        return False, note(str(error), "bad")
    return bool(uncounted(session.rows)), ""


def rest(session: Session | None, at: dict[str, Any], how: Measure, hindrance: str) -> tuple[Any, ...]:
    """(tokens, overview, versions)."""
    if session is None:
        return view.tokens_html(None, None, how), view.NOTHING_OPEN, gr.update(choices=[], value=None)
    return (
        view.tokens_html(session, at["row"], how),
        hindrance + overview_html(session.rows, how.max_seq_len, how.val_split),
        gr.update(choices=view.version_choices(session)),
    )


def code(at: dict[str, Any], *how: Any) -> tuple[str, ...]:
    """The code under each step, in the order of data_code.NAMES."""
    return astuple(codes(sessions.get(at["session"]), at["row"], at["source"], measure(*how)))
