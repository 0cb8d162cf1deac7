"""Questions as the app edits them: written, changed, deleted, and drafted from a dataset's own rows."""

import json

import pytest

from nanochat_core.evaluation.questions import load_questions
from nanochat_core.paths import shipped
from studio.datasets import questions
from studio.evaluate_tab import questions_panel


@pytest.fixture
def data(home):
    """A dataset with a figure, a name, a short and a long answer."""
    path = home / "data" / "cafe_data.jsonl"
    path.parent.mkdir()
    talks = [
        ("When do you open?", "We open at 7 am, from Monday to Friday, all year round."),
        ("Where are you?", "You find us at 14 Mill Lane, right behind the old library."),
        ("Who bakes the bread?", "Every loaf of it is baked by Tomas Reed in the early morning."),
        ("Do you have a garden?", "Yes, a large one."),
        ("Is there soup today?", "Today there is always soup, and today it is pumpkin again, as always today."),
    ]
    rows = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in talks]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in [*rows, rows[0]]) + "[broken\n")
    return path


def test_a_draft_expects_what_the_answer_adds(data):
    path, count = questions.draft(str(data))
    assert (path.name, count) == ("cafe_questions.jsonl", 5)
    expected = [question.expected[0] for question in load_questions(path)]
    assert expected[:4] == ["7 am", "14 Mill Lane", "Tomas Reed", "Yes, a large one"]
    assert expected[4] in ("pumpkin", "always", "again")
    assert questions.draft(str(data)) == (path, 0)  # what is there stays


def test_a_draft_is_a_question_that_its_own_row_answers(data):
    path, _ = questions.draft(str(data))
    said = {row["messages"][0]["content"]: row["messages"][1]["content"] for row in rows(data)}
    assert all(question.answered_by(said[question.asked]) for question in load_questions(path))


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def test_a_question_is_added_changed_and_deleted(data):
    path, _ = questions.draft(str(data))
    added = questions.as_question("What is 6 * 7?", "number", "42", 0.5)
    assert questions.put(questions.read(str(path)), None, added) == (path, 5)
    changed = questions.as_question("Hello\n---\nAnd how are you?", "starts-with", "Fine\nWell", None)
    questions.put(questions.read(str(path)), 5, changed)
    last = load_questions(path)[5]
    assert (last.asked, last.turns, last.match, last.expected) == (
        "And how are you?",
        ("And how are you?",),
        "starts-with",
        ["Fine", "Well"],
    )
    assert questions.as_text(last) == "Hello\n---\nAnd how are you?"
    questions.remove(questions.read(str(path)), 5)
    assert len(load_questions(path)) == 5


def test_what_the_form_does_not_show_stays(home):
    path = home / "data" / "mine_questions.jsonl"
    path.parent.mkdir()
    system = {"role": "system", "content": "Be brief."}
    line = {"messages": [system, {"role": "user", "content": "Hi"}], "expected": ["yo"], "task": "greeting"}
    path.write_text(json.dumps(line) + "\n")
    questions.put(questions.read(str(path)), 0, questions.as_question("Hello", "contains", "yo", None))
    [kept] = load_questions(path)
    assert (kept.messages[0], kept.asked, kept.task) == (system, "Hello", "greeting")


def test_two_who_write_at_once_lose_nothing(data):
    path, _ = questions.draft(str(data))
    seen = questions.read(str(path))
    questions.remove(questions.read(str(path)), 0)
    with pytest.raises(ValueError, match="changed meanwhile"):
        questions.put(seen, 0, questions.as_question("Hi", "contains", "yo", None))
    with pytest.raises(ValueError, match="changed meanwhile"):
        questions_panel.delete(str(path), "", seen.sha256, f"{seen.sha256[:12]}:0")


def test_the_shipped_questions_are_copied_before_they_are_changed(home):
    example = shipped("data") / "example_questions.jsonl"
    before = example.read_bytes()
    target, _ = questions.put(questions.read(str(example)), None, questions.as_question("Hi", "contains", "yo", None))
    assert target.parent == home / "data"
    assert len(load_questions(target)) == len(load_questions(example)) + 1
    assert example.read_bytes() == before


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (("", "contains", "yo", None), "neither"),
        (("Hi", "contains", " ", None), "expected"),
        (("Hi", "number", "x", 0), "no number"),
    ],
)
def test_a_question_that_cannot_be_judged_is_refused(form, said):
    with pytest.raises(ValueError, match=said):
        questions.as_question(*form)


def test_no_other_file_is_reached(home):
    with pytest.raises(ValueError, match="no such file"):
        questions.read("/etc/passwd")


def test_the_panel_lists_searches_and_fills_its_form(data):
    path, _ = questions.draft(str(data))
    shown, note, read, code = questions_panel.show(str(path), "", None)
    assert shown.choices[0][0] == "1. When do you open?"
    assert "5 questions" in note
    compile(code, "cell", "exec")
    rows = [row for _, row in shown.choices]
    assert [row for _, row in questions_panel.show(str(path), "bread", None)[0].choices] == [rows[2]]
    form = questions_panel.chosen(str(path), rows[1], "")
    assert form[:4] == ["Where are you?", "contains", "14 Mill Lane", 0.0]
    assert form[5] == rows[1]
    said, files, filled, listed, *_ = questions_panel.keep(
        str(path), "", read, rows[1], "Where?", "contains", "Mill Lane", 0
    )
    assert "Saved in cafe_questions.jsonl" in said
    assert (files["value"], filled) == (str(path), listed.choices[1][1])
    assert load_questions(path)[1].asked == "Where?"
