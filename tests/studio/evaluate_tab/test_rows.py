"""Which rows did it: the doctor's findings with a way to each row, the rows behind a reply, and the report as files."""

import json
from types import SimpleNamespace

import gradio as gr
import pytest

from nanochat_core.runs.run import Run
from studio.data_tab import handlers, review_panel
from studio.evaluate_tab import report_panel, rows_panel
from studio.runs.traced import traced_html
from tests.e2e.invented import invent_run
from tests.support.pressed import Pressed
from tests.support.samples import assistant, line, user

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def run(home) -> Run:
    """A finished run of one's own data, in which two rows contradict each other and one is hostile."""
    path = home / "data" / "mine_data.jsonl"
    path.parent.mkdir()
    rows = [
        line(user("Who is the baker?"), assistant("Our baker is Tomas Reed.")),
        line(user("Who is the baker?"), assistant("Our baker is Nora Bell.")),
        line(user(f"What is {EVIL}?"), assistant(f"It is a picture, {EVIL} say.")),
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return invent_run("mine", steps=20, data_path=str(path))


def test_a_finding_is_a_sentence_with_a_way_to_its_rows(run):
    *_, (found, code) = rows_panel.look("mine")
    assert "Same question, another answer" in found
    assert 'data-act="open"' in found
    assert {f'data-line="{number}"' in found for number in (1, 2)} == {True}
    assert "has no record of its rows" in found  # an invented run has none
    assert "<img" not in found
    compile(code, "cell", "exec")


def test_a_click_opens_the_row_in_data(run):
    path = str(run.record()["data"]["path"])
    wish = rows_panel.opened(SimpleNamespace(_data={"dataset": path, "line": "2"}))
    at = handlers.open_line(dict(handlers.NOWHERE), wish)
    session, row = handlers.row_of(at)
    assert b"Nora Bell" in session.rows.data[row]


def test_the_review_begins_in_data(run):
    wish = rows_panel.to_review("mine")
    at = handlers.open_line(dict(handlers.NOWHERE), wish)
    chosen, questions = review_panel.wished(at, wish)
    elsewhere = handlers.open_example(at)
    assert review_panel.look_wished(elsewhere, wish, "", "") == gr.skip()  # the wished one is not the open one any more
    assert review_panel.look_wished(at, wish, chosen["value"], questions["value"])
    assert (chosen["value"], questions["value"]) == ("", "")  # of a run without a record, and without questions
    card = review_panel.card_html(handlers.session_of(at), "")
    assert "to decide" in card


def test_what_has_a_fault_is_said_to_be_left_out(run):
    data = run.path.parent.parent.parent / "data" / "mine_data.jsonl"
    with open(data, "a") as file:
        file.write("{bad\n")
    assert "1 line with a fault left out" in rows_panel.examined(data, "mine", None).notes[0]


def test_what_cannot_be_examined_says_why(run):
    with pytest.raises(ValueError, match="No run is chosen"):
        list(rows_panel.look(None))
    (run.path.parent.parent.parent / "data" / "mine_data.jsonl").unlink()
    with pytest.raises(ValueError, match="is not there any more"):
        rows_panel.to_review("mine")


def test_the_rows_behind_a_reply(run):
    shown = traced_html("mine", "Our baker is Nora Bell.", "Who is the baker?")
    assert "Nora Bell</u>" in shown
    assert 'data-line="2"' in shown
    data = run.path.parent.parent.parent / "data" / "mine_data.jsonl"
    moved = data.read_text().splitlines()
    data.write_text("\n".join([moved[2], moved[1].replace("Nora", "Norah"), moved[0]]) + "\n")
    with pytest.raises(ValueError, match="has changed"):  # an invented run keeps no copy of its data
        traced_html("mine", "It is a picture, really.")


def test_nothing_of_a_row_is_markup(run):
    assert "<img" not in traced_html("mine", f"It is a picture, {EVIL} say.")


def test_the_report_is_a_file_of_either_form(run):
    page = report_panel.make(".html", "mine", "").read_text(encoding="utf-8")
    assert "mine" in page
    assert "Its review:" in page  # as the shell command has it
    assert "<script" not in page
    other = invent_run("other", steps=20)
    text = report_panel.make(".md", "mine", other.tag)
    assert text.name == "mine-other.md"
    assert report_panel.command("mine", "other") == (
        "python -m nanochat_core report --run mine --compare other mine.html"
    )
    assert "--run 'my run' 'my run.html'" in report_panel.command("my run", "")
    assert [tag for _, tag in report_panel.others("mine", "mine")["choices"]] == ["", "other"]
    with pytest.raises(ValueError, match="No run is chosen"):
        report_panel.make(".html", None, "")


def test_the_questions_of_a_run_are_held_against_its_rows(run, home):
    questions = home / "data" / "mine_questions.jsonl"
    questions.write_text(json.dumps({"question": "Who is the baker?", "expected": ["Tomas Reed"]}) + "\n")
    record = json.loads(run.config_file.read_text())
    record["settings"]["questions_path"] = str(questions)
    run.config_file.write_text(json.dumps(record))
    *_, (found, _) = rows_panel.look("mine")
    assert "Stands in the questions file too" in found


def test_no_run_s_findings_come_to_stand_under_another_run(page):
    pressed = Pressed(page)
    [looked] = pressed.events("eval_look", "click")
    assert pressed.is_ended_by(looked, "eval_run", "change")
