"""The Data tab's review: one finding of the doctor after the other, decided by single keys or by buttons."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.rows.findings import KINDS
from nanochat_core.rows.kept_folds import has_folds
from nanochat_core.rows.row import row_of
from nanochat_core.runs.run import Run
from nanochat_core.system.words import plural
from studio.data_tab import handlers
from studio.data_tab.editor import FLUSH
from studio.data_tab.handlers import At
from studio.datasets import sessions
from studio.datasets.edit import editable
from studio.datasets.files import data_dir
from studio.datasets.of_run import find_dataset_of
from studio.datasets.review import MANY, Card, Queue, kind_choices, queue_of
from studio.datasets.session import Session
from studio.parts.events import QUIET, UNLIMITED, alerted, another, update_of
from studio.parts.html import empty, escape, note, step

_SCRIPT = Path(__file__).with_name("review.js")
_LEAD = "Contradictions, repetitions, leaks, cut, empty and odd answers, the most suspicious first."
_SHOWN_ROWS = 9
_NO_RUN = ("No run", "")
_DECIDED = ("Nothing left to decide", "Every finding was decided. Change something, and look again.")
_NOTHING_FOUND = ("Nothing to decide", "Nothing was found in these rows. Change something, and look again.")


@dataclass(frozen=True)
class Review:
    """Its controls."""

    looked: gr.State
    """Another value when the rows were looked through: by then, another dataset or row may be shown, and stays."""
    look: gr.Button
    run: gr.Dropdown
    questions: gr.Dropdown
    kind: gr.Dropdown
    bulk: gr.Row
    keep_all: gr.Button
    merge_all: gr.Button
    delete_all: gr.Button
    card: gr.HTML


def build(at: gr.State) -> Review:
    """Lay it out and wire it."""
    gr.HTML(step(4, "Review the rows", _LEAD), padding=False)
    with gr.Row(elem_id="data-review-ask"):
        run = gr.Dropdown([_NO_RUN], value="", label="With the record of", elem_id="data-review-run", min_width=150)
        questions = gr.Dropdown(
            [("None", "")], value="", label="Against the questions", elem_id="data-review-questions", min_width=150
        )
        look = gr.Button("Look for rows to review", size="sm", elem_id="data-review-look", scale=0, min_width=190)
    with gr.Row(visible=False, elem_id="data-review-bulk") as bulk:
        kind = gr.Dropdown([("All kinds", "")], value="", label="Kind", elem_id="data-review-kind", min_width=150)
        keep_all, merge_all, delete_all = (
            gr.Button(f"{label} all of this kind", size="sm", elem_id=f"data-review-{label.lower()}-all", scale=0)
            for label in ("Keep", "Merge", "Delete")
        )
    card = gr.HTML(
        drawn(None, ""),
        html_template="",
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=False,
        elem_id="data-review",
    )
    made = Review(gr.State(""), look, run, questions, kind, bulk, keep_all, merge_all, delete_all, card)
    _wire(at, made)
    return made


def _wire(at: gr.State, made: Review) -> None:
    shown = [made.run, made.questions, made.kind, made.bulk, made.keep_all, made.merge_all, made.delete_all, made.card]
    inputs = [at, made.run, made.questions, made.kind]
    gr.on([at.change, made.kind.input, made.looked.change], _draw, inputs, shown, **QUIET)
    made.look.click(alerted(_look), [at, made.run, made.questions], made.looked, js=FLUSH, **UNLIMITED)
    made.card.act(_acted, [at, made.kind], at, trigger_mode="multiple", **QUIET)
    for act, button in (("keep", made.keep_all), ("merge", made.merge_all), ("delete", made.delete_all)):
        button.click(alerted(_bulk(act)), [at, made.kind], at, js=FLUSH, **QUIET)


# What is done


def _look(at: At, run: str, questions: str, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008  gradio's way
    queue = queue_of(handlers.session_of(at))
    queue.look(run or "", questions or "", report=lambda share, text: progress(share, text))
    return another()


def wished(at: At, wish: list[str]) -> tuple[Any, Any]:
    """(run, questions): the review that another tab asks for, (path, "", tag of a run, its questions).

    With the run's record and its questions, as far as they are offered here.
    """
    session = sessions.get(at["session"])
    if not _is_wished(at, wish) or session is None:
        return gr.skip(), gr.skip()
    menus = run_choices(session), question_choices()
    values = (value if value in [one for _, one in menu] else "" for value, menu in zip(wish[2:4], menus))
    run, questions = (gr.update(choices=menu, value=value) for value, menu in zip(values, menus))
    return run, questions


def look_wished(at: At, wish: list[str], run: str, questions: str) -> Any:
    """Look through the rows as another tab asked for, unless another dataset was opened since."""
    if not _is_wished(at, wish):
        return gr.skip()
    queue_of(handlers.session_of(at)).look(run or "", questions or "")
    return another()


def _is_wished(at: At, wish: list[str]) -> bool:
    return bool(wish) and not wish[1] and at["source"] == wish[0] and sessions.get(at["session"]) is not None


def _bulk(act: str) -> Any:
    def decide(at: At, kind: str) -> At:
        gr.Info(queue_of(handlers.session_of(at)).decide_all(kind, act))
        return settled(at)

    return decide


def _acted(at: At, kind: str, told: gr.EventData) -> At:
    return alerted(acted)(at, told._data)


def acted(at: At, told: Mapping[str, Any]) -> At:
    """What a key or a button of the card says. ValueError when the page has moved on since."""
    session = handlers.session_of(at)
    if told["session"] != session.id:
        raise ValueError("Another dataset is open by now: look at it, and then repeat your click.")
    queue, row = queue_of(session), int(told.get("row", -1))
    if told["act"] == "undo":
        queue.undo()
    elif told["act"] == "skip":
        queue.skip(told["key"])
    elif told["act"] in ("edit", "show"):
        if not session.has(row):
            raise ValueError("This row is not there any more. Look at the next one.")
        return handlers.choose(at, row)
    else:
        queue.decide(told["key"], told["act"], row)
    return settled(at)


def settled(at: At) -> At:
    """After a decision: the conversation that is shown may be gone."""
    session = handlers.session_of(at)
    order = session.rows.order
    return handlers.moved(at, row=at["row"] if session.has(at["row"]) else order[0] if order else None)


# What is shown


def _draw(at: At, run: str, questions: str, kind: str) -> tuple[Any, ...]:
    session = sessions.get(at["session"])
    runs, asked = run_choices(session), question_choices()
    counts = queue_of(session).counts() if session else None
    kinds = kind_choices(counts) if counts else [("All kinds", "")]
    chosen = [
        (field, field if field in [value for _, value in menu] else "", menu)
        for field, menu in ((run, runs), (questions, asked), (kind, kinds))
    ]
    kind = chosen[-1][1]
    return (
        *(update_of(was, value, choices=menu) for was, value, menu in chosen),
        gr.update(visible=bool(counts)),
        gr.update(interactive=bool(kind)),
        gr.update(interactive=kind in MANY),
        gr.update(interactive=bool(kind) and kind not in MANY),
        drawn(session, kind),
    )


def run_choices(session: Session | None) -> list[tuple[str, str]]:
    """(label, tag) of the runs that were trained on this file, in this or another version, and tell of its rows."""
    path = session.path if session else None
    told = [run for run in Run.list() if path and (run.rows_file.is_file() or has_folds(run))]
    return [_NO_RUN, *((run.tag, run.tag) for run in told if (own := find_dataset_of(run)) and own.path == path)]


def question_choices() -> list[tuple[str, str]]:
    """(label, path) of the questions files beside the datasets."""
    found = sorted(data_dir().glob("*_questions.jsonl")) if data_dir().is_dir() else []
    return [("None", ""), *((path.name, str(path)) for path in found)]


def drawn(session: Session | None, kind: str) -> str:
    """The value that draws the first card. Without `<`, since gradio looks for script in it."""
    return json.dumps(card_html(session, kind)).replace("<", "\\u003c")


def card_html(session: Session | None, kind: str) -> str:
    """The finding to decide next, or why there is none."""
    if session is None:
        return empty("No dataset is open", "Pick one above to look through its rows.")
    queue = queue_of(session)
    if not queue.is_looked:
        return empty("Not looked yet", "Look for rows to review: it takes seconds, for 100,000 rows about a minute.")
    waiting = queue.waiting(kind)
    notes = "".join(note(text) for text in queue.notes)
    key = waiting[0].key if waiting else ""
    frame = f'<div class="review" data-session="{escape(session.id)}" data-key="{escape(key)}">'
    if not waiting:
        done = empty(*(_DECIDED if queue.cards else _NOTHING_FOUND))
        return f"{frame}{done}{_tools(queue, None)}{notes}</div>"
    card = waiting[0]
    head = (
        f'<p class="review-head" role="status"><b>{escape(KINDS[card.kind])}</b> · {len(waiting):,} to decide</p>'
        f'<p class="review-reason">{escape(card.reason)}</p>'
    )
    shown = card.rows[:_SHOWN_ROWS]
    shown = shown if card.right in shown else (*shown[:-1], card.right)
    rows = "".join(_row(session, row, number) for number, row in enumerate(shown, 1))
    left = len(card.rows) - len(shown)
    more = note(f"And {plural(left, 'more row')}.") if left else ""
    return f"{frame}{head}{rows}{more}{_tools(queue, card)}{_like(queue, card)}{notes}</div>"


def _row(session: Session, row: int, number: int) -> str:
    label = f"line {session.rows.order.index(row) + 1:,}"
    messages = session.rows.messages(row)
    turns = row_of(0, messages).turns if messages else ()
    said = "".join(f"<dt>{escape(turn.prompt)}</dt><dd>{escape(turn.answer)}</dd>" for turn in turns[-3:])
    name = f"row-{number}"
    return (
        f'<label class="review-row"><span><input type="radio" name="review-row" value="{row}" id="data-review-{name}"'
        f"{' checked' if number == 1 else ''}> <b>{number}</b> {escape(label)}</span><dl>{said}</dl></label>"
    )


_ACTS = (
    ("keep", "k", "Keep"),
    ("edit", "e", "Edit"),
    ("delete", "d", "Delete"),
    ("merge", "m", "Merge into this"),
    ("skip", "s", "Later"),
    ("undo", "u", "Take back"),
)


def _tools(queue: Queue, card: Card | None) -> str:
    can = {
        "undo": bool(queue.can_undo),
        "merge": card is not None and len(card.rows) > 1,
        "edit": card is not None and editable(card.texts[0]) is not None,
    }
    into = ""
    labels = {act: label for act, _, label in _ACTS}
    if card is not None and card.right != card.rows[0]:  # until a person chooses a row: the first is to delete or edit
        into = f' data-row="{card.right}"'
        labels["merge"] = f"Merge into line {queue.session.rows.order.index(card.right) + 1:,}"
    buttons = "".join(
        f'<button type="button" class="data-button" data-act="{act}" data-shortcut="{key}" id="data-review-{act}"'
        f"{into if act == 'merge' else ''}{'' if can.get(act, card is not None) else ' disabled'}>"
        f"{labels[act]} <kbd>{key}</kbd></button>"
        for act, key, _ in _ACTS
    )
    return f'<div class="data-tools review-tools">{buttons}</div>'


def _like(queue: Queue, card: Card) -> str:
    """Rows with like questions, to look at."""
    if not queue.session.has(card.rows[0]):
        return ""
    order, rows = queue.session.rows.order, queue.session.rows
    shown = []
    for row in queue.like(card.rows[0]):
        messages = rows.messages(row)
        if row not in card.rows and messages:
            turn = row_of(0, messages).turns[-1:]
            text = " → ".join(escape(text) for one in turn for text in (one.prompt, one.answer))
            number = f"line {order.index(row) + 1:,}"
            shown.append(
                f'<li><button type="button" class="data-button" data-act="show" data-row="{row}" '
                f'aria-label="Show {number}">{number}</button> {text}</li>'
            )
    return f"<details><summary>Rows like this one</summary><ul>{''.join(shown)}</ul></details>" if shown else ""
