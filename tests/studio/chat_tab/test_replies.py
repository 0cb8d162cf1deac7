"""Replies of one and of two models in the Chat tab: sent, stopped, refused, tried again and edited."""

import json
import threading
import time

import gradio as gr
import pytest

from nanochat_core.engine.reply import Notice, ToolCall
from studio.chat_tab.handlers import STREAM, ChatHandlers
from studio.chat_tab.state import Chat
from tests.support.chatting import ID, chosen, run, said
from tests.support.pressed import Pressed

NOTHING = dict.fromkeys(STREAM, gr.skip())


def finish_writing() -> None:
    """Wait until what was left has been saved, which may be after the test that left it."""
    for thread in [one for one in threading.enumerate() if one.name.startswith("reply-")]:
        thread.join(10)


def test_one_model_answers(models):
    updates = run(ChatHandlers(models).send(ID, " Hello ", None, *chosen(system="Be kind.", seed=4)))
    assert said() == ["Hello", "Good day."]
    assert said(side=1) == ["Hello"]
    name, messages, values = models.asked[0]
    assert name == "pretrained/one"
    assert messages == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert values == {"max_tokens": 64, "temperature": 0.7, "top_k": 50, "seed": 4}
    assert (updates[0]["stop"].visible, updates[0]["send"].visible) == (True, False)
    assert (updates[-1]["stop"].visible, updates[-1]["send"].visible) == (False, True)
    assert "30 tokens · 60.0 tokens/s" in updates[-1]["facts_0"]
    assert "load_model('pretrained/one', step=7)" in updates[-1]["code"]


def test_only_the_message_that_is_answered_is_taken_out_of_the_box(models):
    handlers = ChatHandlers(models)
    taken = [run(handlers.send(ID, " Hello ", None, *chosen()))[0]["taken"] for _ in range(2)]
    assert [json.loads(one)[1] for one in taken] == [" Hello "] * 2
    assert taken[0] != taken[1]  # the same message a second time is a change, too
    assert run(handlers.retry(ID, *chosen()))[0]["taken"] == gr.skip()
    assert "box" not in STREAM  # which only the browser knows by then


def test_two_models_answer_the_same_each_from_its_own_past(models):
    handlers = ChatHandlers(models)
    run(handlers.send(ID, "One", None, *chosen(both=True)))
    models.words = ("Other",)
    run(handlers.send(ID, "Two", None, *chosen(both=True)))
    assert {name for name, _, _ in models.asked[2:]} == {"pretrained/one", "pretrained/two"}
    assert said() == said(side=1) == ["One", "Good day.", "Two", "Other"]


def test_a_second_model_that_comes_later_sees_what_the_first_said(models):
    handlers = ChatHandlers(models)
    run(handlers.send(ID, "One", None, *chosen()))
    run(handlers.send(ID, "Two", None, *chosen(both=True)))
    messages = next(messages for name, messages, _ in models.asked if name == "pretrained/two")
    assert [message["content"] for message in messages] == ["One", "Good day.", "Two"]


def test_updates_are_few_however_fast_the_model_is(models):
    models.words, models.wait = ["a"] * 400, 0.001
    updates = run(ChatHandlers(models).send(ID, "Hi", None, *chosen()))
    assert said()[-1] == "a" * 400
    assert 3 < len(updates) < 100


def test_stop_reaches_the_model_and_what_it_said_stays(models):
    models.words, models.wait = ["word "] * 10_000, 0.01
    handlers = ChatHandlers(models)
    stream = handlers.send(ID, "Hi", None, *chosen())
    next(stream)
    while "word" not in str(Chat.load(ID).shown(0)) and not models.asked:
        next(stream)
    time.sleep(0.1)
    handlers.stop(ID)
    updates = run(stream)
    assert models.stopped == 1
    assert "stopped" in updates[-1]["facts_0"]
    assert said()[-1].startswith("word word")
    assert handlers.stop(ID) == ""


def test_a_closed_page_stops_the_model(models):
    models.words, models.wait = ["word "] * 10_000, 0.01
    handlers = ChatHandlers(models)
    stream = handlers.send(ID, "Hi", None, *chosen())
    next(stream)
    while not models.asked:
        next(stream)
    time.sleep(0.1)
    stream.close()  # and opened again at once: what was said is there
    assert "word" in str(ChatHandlers.restore(handlers, ID, *chosen())[1])
    finish_writing()
    assert models.stopped == 1
    models.words = ["Yes"]
    run(handlers.send(ID, "Again", 0, *chosen()))
    assert said() == ["Again", "Yes"]


def test_a_second_message_while_one_is_answered_is_refused(models):
    models.words, models.wait = ["word "] * 1000, 0.01
    handlers = ChatHandlers(models)
    first = handlers.send(ID, "Hi", None, *chosen())
    next(first)
    with pytest.raises(ValueError, match="still being written"):
        run(handlers.send(ID, "Me too", None, *chosen()))
    assert run(handlers.send(ID, "", None, *chosen())) == run(handlers.send(ID, " Hi ", None, *chosen())) == [NOTHING]
    assert run(handlers.retry(ID, *chosen())) == [NOTHING]  # of two clicks the second changes nothing
    first.close()
    finish_writing()
    assert [turn.user for turn in Chat.load(ID).turns] == ["Hi"]


def test_no_click_is_dropped_because_an_answer_has_just_come_to_its_end(page):
    pressed = Pressed(page)
    for field, kind in (("chat_send", "click"), ("chat_box", "submit"), ("chat_retry", "click")):
        [event] = pressed.events(field, kind)
        assert event.trigger_mode == "multiple"


def test_a_model_that_fails_says_so_in_its_place_and_the_other_answers(models):
    run(ChatHandlers(models).send(ID, "Hi", None, *chosen(both=True, model_1="pretrained/broken@7")))
    assert said()[-1] == "Good day."
    assert said(side=1)[-1] == "**The checkpoint is damaged. Take another one.**"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"model_0": None}, "No model is chosen"), ({"model_0": "finetuned/gone@4"}, "There is no model")],
)
def test_no_model_is_a_sentence_in_the_chat(models, changes, words):
    run(ChatHandlers(models).send(ID, "Hi", None, *chosen(**changes)))
    assert words in said()[-1]


def test_an_empty_message_or_setting_is_a_sentence(models):
    handlers = ChatHandlers(models)
    with pytest.raises(ValueError, match="Write a message"):
        run(handlers.send(ID, "  ", None, *chosen()))
    with pytest.raises(ValueError, match="The setting seed is empty"):
        run(handlers.send(ID, "Hi", None, *chosen(seed=None)))
    assert Chat.load(ID).turns == []


def test_retry_answers_the_last_message_with_the_next_seed(models):
    handlers = ChatHandlers(models)
    with pytest.raises(ValueError, match="no message to answer again"):
        run(handlers.retry(ID, *chosen()))
    run(handlers.send(ID, "One", None, *chosen()))
    updates = run(handlers.retry(ID, *chosen()))
    assert updates[0]["seed"] == 2
    assert [values["seed"] for _, _, values in models.asked] == [1, 2]
    assert said() == ["One", "Good day."]


def test_an_edited_message_takes_the_place_of_all_that_came_after(models):
    handlers = ChatHandlers(models)
    for text in ("One", "Two", "Three"):
        run(handlers.send(ID, text, None, *chosen()))
    box, turn, note = handlers.edit(ID, 1)
    assert (box, turn) == ("Two", 1)
    assert "replaces message 2 and what came after it (1 more message)" in note
    run(handlers.send(ID, "Two, please", turn, *chosen()))
    assert said() == ["One", "Good day.", "Two, please", "Good day."]
    assert handlers.edit(ID, None)[:2] == ("Two, please", 1)


def test_an_edited_message_that_was_cleared_elsewhere_is_sent_as_a_new_one(models):
    handlers = ChatHandlers(models)
    run(handlers.send(ID, "One", None, *chosen()))
    turn = handlers.edit(ID, None)[1]
    handlers.clear(ID)
    run(handlers.send(ID, "One, please", turn, *chosen()))
    assert said() == ["One, please", "Good day."]


def test_a_tool_call_is_a_fold_and_part_of_what_the_model_sees_next(models):
    call = ToolCall("2*3", "6")
    refused = ToolCall("import os", None)
    models.extra = [Notice("Left out: <b>."), call, refused]
    handlers = ChatHandlers(models)
    updates = run(handlers.send(ID, "Sum?", None, *chosen()))
    shown = Chat.load(ID).shown(0)
    assert [message.get("metadata", {}).get("title") for message in shown[1:]] == ["Calculator"] * 2 + [None]
    assert shown[1]["content"] == "```\n2*3\n= 6\n```"
    assert "refused" in shown[2]["content"]
    assert "Left out: &lt;b&gt;." in updates[-1]["facts_0"]
    models.extra = []
    run(handlers.send(ID, "And?", None, *chosen()))
    parts = models.asked[-1][1][1]["content"]
    assert parts[:2] == [{"type": "python", "text": "2*3"}, {"type": "python_output", "text": "6"}]
