"""The form of questions beside its list: it is written over the question that it holds, and over no other one."""

import gradio as gr
import pytest

from nanochat_core.evaluation.questions import Question, load_questions, save_questions
from tests.support.pressed import Pressed


def asked(path) -> list[str]:
    return [question.asked for question in load_questions(path)]


@pytest.fixture
def files(home):
    """Two files of as many questions."""
    (home / "data").mkdir()
    paths = [home / "data" / f"{name}_questions.jsonl" for name in ("one", "two")]
    for path in paths:
        questions = [f"{path.name[:3]} {number}?" for number in range(3)]
        save_questions(path, [Question([{"role": "user", "content": text}], ["yes"]) for text in questions])
    return paths


class Form(Pressed):
    """The page, on which what changes the list's choice fires, as in a browser."""

    def do(self, elem_id, kind="click", **values):
        was = self["eval_question_list"]
        super().do(elem_id, kind, **values)
        if self["eval_question_list"] != was and elem_id != "eval_question_list":
            super().do("eval_question_list", "change")

    def open(self, path) -> None:
        self.do("eval_questions", "change", eval_questions=str(path))

    def choose(self, place: int) -> None:
        self.do("eval_question_list", "change", eval_question_list=self.choices["eval_question_list"][place][1])


def test_another_file_takes_the_question_of_the_former_one_out_of_its_place(page, files):
    form = Form(page)
    form.open(files[0])
    form.choose(1)
    assert form["eval_question_text"] == "one 1?"
    form.open(files[1])
    assert form["eval_question_list"] is None
    form.do("eval_question_keep")
    assert asked(files[1])[:3] == ["two 0?", "two 1?", "two 2?"]
    form.choose(1)
    assert form["eval_question_text"] == "two 1?"


def test_what_is_clicked_before_the_page_has_followed_is_refused(page, files):
    form = Form(page)
    form.open(files[0])
    form.choose(1)
    Pressed.do(form, "eval_questions", "change", eval_questions=str(files[1]))  # the form still holds the former one
    form.do("eval_question_keep", eval_question_text="typed")
    assert asked(files[1]) == ["two 0?", "two 1?", "two 2?"]
    assert "changed meanwhile" in form["eval_questions_said"]
    assert form["eval_question_text"] == "typed"


def test_a_file_that_an_editor_has_changed_keeps_its_questions_and_the_form_its_text(page, files):
    form = Form(page)
    form.open(files[0])
    form.choose(1)
    form["eval_question_text"] = "typed"
    save_questions(files[0], load_questions(files[0])[1:])  # what stood in place 2 stands in place 1
    for button in ("eval_question_keep", "eval_question_delete"):
        chosen = form["eval_question_list"]
        Pressed.do(form, button)
        assert asked(files[0]) == ["one 1?", "one 2?"]
        assert "changed meanwhile" in form["eval_questions_said"]
        assert form["eval_question_text"] == "typed"
        form["eval_question_list"] = chosen
    with pytest.raises(gr.Error, match="changed meanwhile"):
        form.do("eval_question_list", "change", eval_question_list=chosen[:-1] + "0")
    assert form["eval_question_text"] == "typed"


def test_what_is_saved_stays_chosen_and_what_is_typed_on_stays(page, files):
    form = Form(page)
    form.open(files[0])
    form.choose(1)
    Pressed.do(form, "eval_question_keep", eval_question_text="one more?")
    form["eval_question_text"] = "one more? And on"
    Pressed.do(form, "eval_question_list", "change")
    assert form["eval_question_text"] == "one more? And on"
    assert form["eval_question_list"] == form.choices["eval_question_list"][1][1]
    form.do("eval_question_keep")
    assert asked(files[0]) == ["one 0?", "one more? And on", "one 2?"]


def test_an_added_question_is_the_chosen_one(page, files):
    form = Form(page)
    form.open(files[0])
    form.do("eval_new", eval_question_text="old")
    form.do("eval_question_keep", eval_question_text="new?", eval_expected="yes")
    assert asked(files[0])[3:] == ["new?"]
    assert form["eval_question_list"] == form.choices["eval_question_list"][3][1]
    form.do("eval_question_keep", eval_question_text="newer?")
    assert asked(files[0])[3:] == ["newer?"]
