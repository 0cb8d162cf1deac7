"""The fold in which questions are written: a list, and a form with what counts as a right reply."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from nanochat_core.system.words import plural
from studio.context import Context
from studio.datasets import questions as question_files
from studio.datasets.files import list_datasets
from studio.parts import html
from studio.parts.events import QUIET, alerted, noted, update_of
from studio.parts.showcode import show_code

_RULES = {
    "contains": "contains one of the texts",
    "not-contains": "contains none of the texts",
    "equals": "equals one of the texts",
    "starts-with": "starts with one of the texts",
    "regex": "matches a regular expression",
    "number": "ends with the number",
    "is-json": "is JSON",
}
"""What a reply must do, by the rule's name in the file."""
_CHANGED = (
    "This file of questions has changed meanwhile, so nothing was written. Look at the list, then repeat your change; "
    "what you typed is still there."
)
_SHOWN = 200
_LABEL = 90
_CODE = (
    "from nanochat_core.evaluation.questions import load_questions, save_questions\n\n"
    "questions = load_questions({0!r})\nsave_questions({0!r}, questions)"
)


@dataclass(frozen=True)
class QuestionsPanel:
    """Its components."""

    search: gr.Textbox
    rows: gr.Radio
    note: gr.HTML
    text: gr.Textbox
    rule: gr.Dropdown
    expected: gr.Textbox
    tolerance: gr.Number
    keep: gr.Button
    new: gr.Button
    delete: gr.Button
    data: gr.Dropdown
    draft: gr.Button
    said: gr.HTML
    read: gr.State
    """SHA-256 of the file as the list shows it."""
    filled: gr.State
    """Which question the form holds, as the list has it; "" for a new one."""
    code: gr.Code

    @property
    def form(self) -> list[Any]:
        """What a question is made of."""
        return [self.text, self.rule, self.expected, self.tolerance]


def panel() -> QuestionsPanel:
    """Lay it out."""
    with gr.Accordion("Write and change the questions", open=False, elem_id="eval_questions_fold"):
        lead = (
            "Ask in words that are not in the data: else it is memory that is tested. A rule says which reply is right."
        )
        gr.HTML(html.lead(lead), padding=False)
        with gr.Row(elem_classes="fields"):
            data = gr.Dropdown([], value=None, label="Draft from", elem_id="eval_draft_data")
            search = gr.Textbox(label="Search", placeholder="Words in a question", max_lines=1, elem_id="eval_search")
        with gr.Row(elem_classes="buttons"):
            draft = _button("Draft questions from this data", "draft", 230)
            new = _button("New question", "new", 120)
        with gr.Row(equal_height=False, elem_classes="halves"):
            with gr.Column(min_width=300):
                rows = gr.Radio([], label="Questions", elem_id="eval_question_list", interactive=True)
                note = gr.HTML(elem_id="eval_questions_note", padding=False)
            with gr.Column(min_width=300):
                text = gr.Textbox(
                    label="Question",
                    info="A line of --- between several turns; the last reply is judged.",
                    lines=2,
                    max_lines=12,
                    elem_id="eval_question_text",
                )
                rules = [(said, name) for name, said in _RULES.items()]
                rule = gr.Dropdown(rules, value="contains", label="The reply is right when it", elem_id="eval_rule")
                expected = gr.Textbox(
                    label="Expected", info="One a line; any one of them counts.", lines=2, elem_id="eval_expected"
                )
                tolerance = gr.Number(
                    0, label="Give or take", minimum=0, visible=False, elem_id="eval_tolerance", interactive=True
                )
                with gr.Row(elem_classes="buttons"):
                    keep = _button("Save question", "question_keep", 140, variant="primary")
                    delete = _button("Delete", "question_delete", 90)
        said = gr.HTML(elem_id="eval_questions_said", padding=False)
        code = show_code("eval_questions_code")
    return QuestionsPanel(
        *(search, rows, note, text, rule, expected, tolerance, keep, new, delete, data, draft, said),
        read=gr.State(""),
        filled=gr.State(""),
        code=code,
    )


def _button(label: str, name: str, width: int, **more: Any) -> gr.Button:
    return gr.Button(label, size="sm", elem_id=f"eval_{name}", scale=0, min_width=width, **more)


def wire(parts: QuestionsPanel, files: gr.Dropdown, context: Context) -> None:
    """Connect it; `files` is the list of files of questions, which follows what is saved here."""
    listed = [parts.rows, parts.note, parts.read, parts.code]
    look = [files, parts.search]
    drawn: dict[str, Any] = {"fn": show, "inputs": [*look, parts.rows], "outputs": listed, **QUIET}
    for event in (context.page.load, context.tab.select):
        event(datasets, [parts.data, context.dataset], parts.data, **QUIET)
    files.change(**drawn)
    parts.search.change(**drawn)
    form = [*parts.form, parts.keep, parts.filled]
    parts.rows.change(alerted(chosen), [files, parts.rows, parts.filled], form, **QUIET).failure(**drawn)
    parts.rule.change(fields_of, parts.rule, [parts.expected, parts.tolerance], **QUIET)
    parts.new.click(blank, None, [parts.rows, *parts.form, parts.said, parts.filled], **QUIET)
    place, saved = [*look, parts.read], [parts.said, files, parts.filled, *listed]
    parts.keep.click(noted(keep, parts.said), [*place, parts.filled, *parts.form], saved, **QUIET).then(**drawn)
    parts.delete.click(noted(delete, parts.said), [*place, parts.rows], saved, **QUIET).then(**drawn)
    drafted = [parts.said, files, parts.rows]
    parts.draft.click(noted(draft, parts.said), parts.data, drafted, **QUIET).then(**drawn)


def datasets(present: str | None, chosen_data: str) -> Any:
    """The datasets that can be drafted from; the one that is open in Data at first."""
    choices = [(dataset.label, str(dataset.path)) for dataset in list_datasets()]
    values = [value for _, value in choices]
    usual = chosen_data if chosen_data in values else (values[0] if values else None)
    return update_of(present, present if present in values else usual, choices=choices)


def show(path: str | None, search: str, row: str | None) -> tuple[Any, str, str, str]:
    """(list, note, the file's hash, code) of a file of questions."""
    if not path:
        return gr.Radio(choices=[], value=None), "", "", ""
    try:
        file = question_files.read(path)
    except ValueError as error:
        return gr.Radio(choices=[], value=None), html.note(str(error), "bad"), "", ""
    words = (search or "").casefold().split()
    found = [
        (place, question)
        for place, question in enumerate(file.questions)
        if all(word in f"{question.asked} {question.wanted}".casefold() for word in words)
    ]
    choices = [(_label(place, question.asked), _row(file, place)) for place, question in found[:_SHOWN]]
    note = plural(len(file.questions), "question")
    if len(found) != len(file.questions):
        note += f", {len(found):,} of them found"
    if len(found) > _SHOWN:
        note += f"; the first {_SHOWN} are listed: search for the others"
    # What is still listed is not set: by the time the list came, another question may have been chosen.
    gone: dict[str, Any] = {} if row in [value for _, value in choices] else {"value": None}
    shown = gr.Radio(choices=choices, **gone)
    return shown, f'<p class="chat-facts">{html.escape(note)}.</p>', file.sha256, _CODE.format(path)


def _label(place: int, asked: str) -> str:
    text = f"{place + 1}. {' '.join(asked.split())}"
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def _row(file: question_files.QuestionsFile, place: int) -> str:
    """A question as the list has it: another value for another file, or another content, so that its change is seen."""
    return f"{file.sha256[:12]}:{place}"


def _place(file: question_files.QuestionsFile, row: str | None) -> int | None:
    """The place of a question of the list, None without one. ValueError when it was of another file or content."""
    if not row:
        return None
    sha256, _, place = row.partition(":")
    if not file.sha256.startswith(sha256):
        raise ValueError(_CHANGED)
    return int(place)


def chosen(path: str | None, row: str | None, filled: str) -> list[Any]:
    """(the form, button, which question it holds) of the chosen question; of none, the form is for a new one."""
    if not path or not row:
        return [*[gr.skip()] * 4, gr.Button("Add question"), ""]
    if row == filled:  # saved from the form, in which more may have been typed since
        return [*[gr.skip()] * 4, gr.Button("Save question"), row]
    file = question_files.read(path)
    question = file.questions[_place(file, row) or 0]
    rule = "equals" if question.match == "exact" else question.match
    expected = "\n".join(question.expected)
    form = [question_files.as_text(question), rule, expected, question.tolerance]
    return [*form, gr.Button("Save question"), row]


def fields_of(rule: str) -> tuple[Any, Any]:
    """(expected, tolerance): which of the fields a rule needs."""
    return gr.update(visible=rule != "is-json"), gr.update(visible=rule == "number")


def blank() -> list[Any]:
    """An empty form, for a new question."""
    return [None, "", "contains", "", 0, "", ""]


def keep(path: str | None, search: str, read: str, filled: str, *form: Any) -> tuple[Any, ...]:
    """Write the form over the question it holds, or as a new one: (said, files, which it holds, the list)."""
    question = question_files.as_question(*form)
    file = _file(path, read)
    target, place = question_files.put(file, _place(file, filled), question)
    what = "Saved" if filled else f"Added as question {place + 1}"
    return _saved(target, path, search, f"{what} in {target.name}.", place)


def delete(path: str | None, search: str, read: str, row: str | None) -> tuple[Any, ...]:
    """Delete the chosen question: (said, files, which the form holds, the list)."""
    file = _file(path, read)
    target = question_files.remove(file, _place(file, row))
    return _saved(target, path, search, f"Deleted from {target.name}.", None)


def draft(dataset: str | None) -> tuple[Any, ...]:
    """Questions from a dataset's rows: (said, files, list)."""
    target, count = question_files.draft(dataset or "")
    if not count:
        return html.note(f"{target.name} has a question for every row already."), gr.skip(), gr.skip()
    said = (
        f"{plural(count, 'question')} drafted in {target.name}. What is expected is a guess: look through them, and "
        "write some in words that are not in the data."
    )
    files = gr.update(choices=question_files.question_files(), value=str(target))
    return html.note(said, "good"), files, None


def _file(path: str | None, read: str) -> question_files.QuestionsFile:
    if not path:
        raise ValueError("There is no file of questions yet. Draft one from your data first.")
    file = question_files.read(path)
    if file.sha256 != read:
        raise ValueError(_CHANGED)
    return file


def _saved(target: Path, path: str | None, search: str, said: str, place: int | None) -> tuple[Any, ...]:
    if str(target) != path:
        said += " The file that comes with the program stays as it is."
    row = "" if place is None else _row(question_files.read(str(target)), place)
    shown, *more = show(str(target), search, row)
    row = row if row in [value for _, value in shown.choices] else ""
    files = gr.update(choices=question_files.question_files(), value=str(target))
    return html.note(said, "good"), files, row, gr.Radio(choices=shown.choices, value=row or None), *more
