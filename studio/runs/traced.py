"""The rows that taught a reply, as HTML: what of it stands in them word for word, and a way to each row in Data."""

from nanochat_core.rows.row import Row, rows_of_lines
from nanochat_core.rows.trace import trace
from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import kept_lines
from studio.datasets.of_run import find_dataset_of
from studio.parts import html

SHOWN = 5
"""Rows that are listed, the likeliest first."""


def traced_html(tag: str, reply: str, question: str = "") -> str:
    """What of `reply` the rows of run `tag` hold. ValueError when there is no such run, or its data is gone."""
    run = Run.open(tag)
    found = trace(tag, reply, question)
    if not found.spans:
        return html.note(found.summary())
    wanted = found.lines[:SHOWN]
    texts = {number: line for number, line in kept_lines(run) if number in set(wanted)}
    path, here = _present_lines(run, set(texts.values()))
    rows = {row.line: row for row in rows_of_lines(texts.items())}
    listed = "".join(_row(rows[line], path, here.get(texts[line])) for line in wanted if line in rows)
    title = f"Underlined stands word for word in the rows that {tag} was trained on:"
    return (
        f'<div class="traced"><p>{html.escape(title)}</p><p class="traced-reply">{found.underlined()}</p>{listed}</div>'
    )


def _present_lines(run: Run, texts: set[bytes]) -> tuple[str, dict[bytes, int]]:
    """(path of the dataset, where these lines stand in it now); ("", {}) where it is no dataset any more."""
    dataset = find_dataset_of(run)
    if dataset is None:
        return "", {}
    with open(path := dataset.path, "rb") as file:
        stripped = ((number, line.strip()) for number, line in enumerate(file, 1))
        return str(path), {line: number for number, line in stripped if line in texts}


def _row(row: Row, path: str, line: int | None) -> str:
    turns = "".join(
        f"<div><dt>{html.escape(turn.prompt)}</dt><dd>{html.escape(turn.answer)}</dd></div>" for turn in row.turns[-2:]
    )
    why = "changed since" if path else "its file is not in Data"
    where = f'<span class="lead">{why}</span>' if line is None else open_button(path, line)
    return f'<div class="traced-row"><dl class="replies">{turns}</dl>{where}</div>'


def open_button(path: str, line: int) -> str:
    """The button that opens a line of a dataset in Data, where its page heeds `data-act`.

    Not `data-path`: gradio takes an event's table with a path for a file that a browser has sent.
    """
    return (
        f'<button type="button" class="small" data-act="open" data-dataset="{html.escape(path)}" data-line="{line}">'
        f"Open line {line:,} in Data</button>"
    )
