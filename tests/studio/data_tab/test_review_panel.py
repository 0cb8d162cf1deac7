"""The review on the page: looking through the rows takes a while, and wherever the page is by then, it stays."""

import gradio as gr
import pytest

from studio.data_tab import handlers, review_panel
from studio.datasets.review import queue_of
from tests.support.pressed import Pressed
from tests.support.samples import assistant, line, user


def test_the_page_stays_where_it_is_when_the_rows_were_looked_through(home, page):
    (home / "data").mkdir()
    path = home / "data" / "mine.jsonl"
    path.write_text("".join(line(user("Who bakes?"), assistant(name)) + "\n" for name in ("Tomas.", "Nora.")))
    pressed = Pressed(page)
    [look] = pressed.events("data-review-look", "click")
    at, looked = look.inputs[0], look.outputs[0]
    assert [type(field) for field in look.outputs] == [gr.State]
    assert looked is not at
    pressed.values[at._id] = there = handlers.pick(handlers.NOWHERE, str(path))
    before = pressed.values[looked._id]
    pressed.do("data-review-look")
    assert pressed.values[at._id] is there
    assert pressed.values[looked._id] != before
    pressed.do(looked._id, "change")
    assert "to decide" in pressed["data-review"]


@pytest.mark.parametrize(("answers", "said"), [(["Tomas."], "Nothing was found"), (["Tomas.", "Nora."], "was decided")])
def test_an_empty_queue_says_whether_there_was_anything(home, answers, said):
    (home / "data").mkdir()
    path = home / "data" / "mine.jsonl"
    path.write_text("".join(line(user("Who bakes?"), assistant(name)) + "\n" for name in answers))
    session = handlers.session_of(handlers.pick(handlers.NOWHERE, str(path)))
    queue = queue_of(session)
    queue.look()
    for card in queue.waiting():
        queue.decide(card.key, "keep", card.rows[0])
    assert said in review_panel.card_html(session, "")
