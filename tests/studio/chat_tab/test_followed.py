"""A page that is opened while a reply is being written follows it to its end; one that is cleared then stays clear."""

import pytest

from studio.chat_tab import shelf
from studio.chat_tab.handlers import STREAM, ChatHandlers
from studio.chat_tab.state import Chat
from tests.support.chatting import ID, chosen, run, said


@pytest.fixture
def talking(models):
    """(handlers, stream): a page whose model will not end by itself, and has said something."""
    models.words, models.wait = ["word "] * 100_000, 0.01
    handlers = ChatHandlers(models)
    stream = handlers.send(ID, "Hi", None, *chosen())
    while "word" not in str(next(stream)):
        pass
    yield handlers, stream
    stream.close()
    run(handlers.follow(ID, *chosen()))


def named(update) -> dict:
    return dict(zip(STREAM, update, strict=True))


def test_it_shows_at_once_what_is_being_written_and_then_all_of_it(talking):
    handlers, stream = talking
    restored = str(handlers.restore(ID, *chosen())[1])
    assert "word" in restored
    followed = handlers.follow(ID, *chosen())
    first = named(next(followed))
    assert (first["send"].visible, first["stop"].visible) == (False, True)
    while len(str(named(next(followed))["bot_0"])) <= len(restored):
        pass
    stream.close()  # the page that was reloaded is gone: gradio says so late
    last = run(followed)[-1]
    assert (last["send"].visible, last["stop"].visible) == (True, False)
    assert "stopped" in last["facts_0"]
    assert last["bot_0"][-1]["content"] == said()[-1]
    assert "'Hi'" in last["code"]


def test_it_can_be_stopped_there_and_closing_that_page_stops_nothing(talking, models):
    handlers, stream = talking
    other = handlers.follow(ID, *chosen())
    next(other)
    other.close()
    next(stream)
    assert models.stopped == 0
    assert "Stopping" in handlers.stop(ID)
    assert "stopped" in run(stream)[-1]["facts_0"]
    assert models.stopped == 1


def test_a_reply_that_ended_meanwhile_is_shown_and_the_buttons_are_left_alone(models):
    handlers = ChatHandlers(models)
    run(handlers.send(ID, "One", None, *chosen()))
    [update] = run(handlers.follow(ID, *chosen()))
    assert [message["content"] for message in update["bot_0"]] == ["One", "Good day."]
    assert update["send"] == update["stop"] == {"__type__": "update"}


def test_a_chat_that_is_cleared_while_it_is_answered_does_not_come_back(talking):
    handlers, stream = talking
    handlers.clear(ID)
    assert run(stream)[-1]["bot_0"] == []
    assert Chat.load(ID).turns == []


def test_a_chat_that_is_cleared_while_its_page_is_gone_does_not_come_back(talking):
    handlers, stream = talking
    stream.close()
    handlers.clear(ID)
    run(handlers.follow(ID, *chosen()))
    assert Chat.load(ID).turns == []


def test_a_visitor_does_not_follow_the_owner_s_chat_nor_stop_it(talking, monkeypatch):
    handlers, stream = talking
    monkeypatch.setattr(shelf, "_VISITORS", shelf.InMemory(1))
    monkeypatch.setattr(shelf, "is_visitor", lambda: True)
    assert handlers.restore(ID, *chosen())[1] == []
    assert "word" not in str(run(handlers.follow(ID, *chosen())))
    assert handlers.stop(ID) == ""
    monkeypatch.undo()
    assert "word" in str(next(stream))
