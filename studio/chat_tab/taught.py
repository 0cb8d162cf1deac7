"""Which rows taught this? Under a finetuned model's reply, what stands word for word in the rows that taught it."""

from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from nanochat_core.rows.index import split_words
from nanochat_core.rows.row import Row, rows_of_lines
from nanochat_core.rows.trace import Span, Trace, trace
from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import kept_lines
from studio.chat_tab.state import Chat, Reply
from studio.context import Context, wish
from studio.datasets.of_run import dataset_of
from studio.models.choices import all_choices
from studio.parts.events import QUIET, alerted
from studio.parts.html import escape, note
from studio.space.access import for_visitors, is_visitor

SHOWN_ROWS = 4
"""Rows that are shown of a span."""

_SCRIPT = """
element.addEventListener("click", (event) => {
  const span = event.target.closest("button[data-span]");
  if (span) {
    const opens = span.getAttribute("aria-expanded") !== "true";
    for (const other of element.querySelectorAll("button[data-span]")) {
      const isOpen = opens && other.dataset.span === span.dataset.span;
      other.setAttribute("aria-expanded", isOpen);
      document.getElementById(other.getAttribute("aria-controls")).hidden = !isOpen;
    }
  }
  const row = event.target.closest("button[data-line]");
  if (row) trigger("act", { tag: row.dataset.tag, line: Number(row.dataset.line) });
});
"""
"""The first click on a span shows its rows, a click on a row opens it in Data."""


def panel(side: int) -> gr.HTML:
    """Where it is shown, under the replies of one model."""
    return gr.HTML("", elem_id=f"chat_taught_{side}", padding=False, js_on_load=_SCRIPT, elem_classes="for-owner")


def wire(panel: gr.HTML, side: int, which: list[Any], events: Iterable[Any], context: Context) -> None:
    """Draw it after each of `events`; its clicks are wishes to Data. which: the chat, and the turn that is picked."""

    @for_visitors
    def drawn(chat_id: str, picked: int | None) -> str:
        return shown(chat_id, side, picked)

    for event in events:
        event(drawn, which, panel, **QUIET)
    panel.act(alerted(_wished), None, context.to_data, **QUIET)


def _wished(told: gr.EventData) -> list[str]:
    return row_wish(str(told._data["tag"]), int(told._data["line"]))


def shown(chat_id: str, side: int, picked: int | None) -> str:
    """The picked or last reply of a side with its spans; "" where a model answered that nobody finetuned here."""
    chat = Chat.load(chat_id) if chat_id and not is_visitor() else None
    if chat is None or not chat.turns:
        return ""
    turn = chat.turns[-1 if picked is None or picked >= len(chat.turns) else picked]
    reply = turn.replies[side]
    tag = tag_of(reply) if reply else None
    if reply is None or tag is None or not reply.text.strip():
        return ""
    try:
        return html_of(trace(tag, reply.text, turn.user), side, rows_of)
    except (ValueError, OSError) as error:
        return note(f"Which rows taught this cannot be told: {error}")


def tag_of(reply: Reply) -> str | None:
    """The run whose model gave this reply; None for a base model, and for one that is not there any more."""
    value = next((value for label, value in all_choices() if label == reply.model), "")
    return value.removeprefix("finetuned/").rsplit("@", 1)[0] if value.startswith("finetuned/") else None


def rows_of(tag: str, lines: set[int]) -> dict[int, Row]:
    """The rows on these lines of a run's data."""
    found: dict[int, Row] = {}
    for line, data in kept_lines(Run.open(tag)):
        if line in lines:
            found.update((line, row) for row in rows_of_lines([(line, data)]))
            if len(found) == len(lines):
                break
    return found


def html_of(found: Trace, side: int, rows_of: Callable[[str, set[int]], dict[int, Row]]) -> str:
    """The reply with its spans underlined, and the rows of each, which a click shows."""
    if not found.spans:
        return note(f"Nothing of this stands word for word in the rows of {found.tag}.")
    rows = rows_of(found.tag, {line for span in found.spans for line in span.lines[:SHOWN_ROWS]})
    said = "".join(escape(text) if number is None else _button(text, number, side) for text, number in found.pieces())
    folds = "".join(_rows(found.tag, span, number, side, rows) for number, span in enumerate(found.spans))
    title = '<p class="taught-title">Which rows taught this? Click what is underlined.</p>'
    return f'<div class="taught">{title}<p class="taught-reply">{said}</p>{folds}</div>'


def _button(text: str, number: int, side: int) -> str:
    return (
        f'<button type="button" data-span="{number}" aria-expanded="false" aria-controls="taught-{side}-{number}">'
        f"{escape(text)}</button>"
    )


def _rows(tag: str, span: Span, number: int, side: int, rows: dict[int, Row]) -> str:
    listed = "".join(_row(tag, line, rows[line], span) for line in span.lines[:SHOWN_ROWS] if line in rows)
    more = span.count - SHOWN_ROWS
    rest = f"<p>and {more:,} more</p>" if more > 0 else ""
    return f'<div id="taught-{side}-{number}" class="taught-rows" hidden>{listed}{rest}</div>'


def _row(tag: str, line: int, row: Row, span: Span) -> str:
    turn = next((turn for turn in row.turns if _stands_in(span.text, turn.answer)), row.turns[-1])
    told = f'data-tag="{escape(tag)}" data-line="{line}"'
    button = f'<button type="button" class="taught-open" {told}>Open line {line:,}</button>'
    return f"<p>{button} <b>{escape(turn.prompt)}</b> {escape(turn.answer)}</p>"


def _stands_in(text: str, answer: str) -> bool:
    """Whether the words of `text` stand in `answer`, one after the other, as the index has it."""
    wanted, words = ([word.text for word in split_words(one)] for one in (text, answer))
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words)))


def row_wish(tag: str, line: int) -> list[str]:
    """The wish to have a row of the run's data shown in Data, at the line where it stands today.

    ValueError when the file is gone, or the row is not in it any more.
    """
    run = Run.open(tag)
    dataset = dataset_of(run)
    wanted = next((data for number, data in kept_lines(run) if number == line), None)
    lines = [text.strip() for text in dataset.path.read_bytes().split(b"\n")]
    if wanted in lines:
        return wish(str(dataset.path), str(lines.index(wanted) + 1))
    if line > len(lines) or not lines[line - 1]:
        raise ValueError(f"This row is not in {dataset.name} any more: it was deleted since '{tag}' was trained.")
    gr.Info(f"{dataset.name} has changed since '{tag}' was trained: line {line:,} is another one today.")
    return wish(str(dataset.path), str(line))
