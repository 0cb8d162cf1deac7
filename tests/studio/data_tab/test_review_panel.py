"""The review on the page: looking through the rows takes a while, and wherever the page is by then, it stays."""

import gradio as gr

from studio.data_tab import handlers
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
