"""A chat is kept under the home folder: restored when the page is loaded again, deleted when it is cleared."""

import pytest

from nanochat_core.paths import home as home_folder
from studio.chat_tab.handlers import ChatHandlers
from studio.chat_tab.settings import SETTINGS
from studio.chat_tab.state import Chat
from tests.support.chatting import ID, A, B, chosen, run


def test_the_chat_survives_a_reload_and_is_deleted_when_cleared(models):
    handlers = ChatHandlers(models)
    run(handlers.send(ID, "One", None, *chosen()))
    chat_id, bot, facts, other, _, *restored = ChatHandlers(models).restore(ID, *chosen(seed=9, model_0=B, model_1=A))
    settings = dict(zip(SETTINGS, restored, strict=True))
    assert [settings[name]["value"] for name in ("model_0", "model_1", "seed")] == [A, B, 1]
    assert "'One'" in handlers.code(ID, *chosen())
    assert (chat_id, [message["content"] for message in bot]) == (ID, ["One", "Good day."])
    assert "30 tokens" in facts
    assert len(other) == 1
    handlers.clear(ID)
    assert Chat.load(ID).turns == []
    assert len(handlers.restore("", *chosen())[0]) == 16


def test_what_is_as_it_was_chosen_is_not_sent_to_a_page_in_which_it_may_have_been_changed_meanwhile(models):
    handlers = ChatHandlers(models)
    run(handlers.send(ID, "One", None, *chosen()))
    for chat_id, settings in ((ID, chosen()), ("", chosen(seed=7, model_0=B))):
        updates = handlers.restore(chat_id, *settings)[5:]
        assert len(updates) == len(SETTINGS)
        assert not any("value" in update for update in updates)
    menu = dict(zip(SETTINGS, updates, strict=True))["model_0"]
    assert [value for _, value in menu["choices"]].count(B) == 1


@pytest.mark.parametrize("chat_id", ["../../../etc/passwd", "", "0123456789ABCDEF", None])
def test_an_id_from_the_browser_reaches_no_other_file(home, chat_id):
    with pytest.raises(ValueError, match="cannot be found"):
        Chat(chat_id).save()
    assert list(home.iterdir()) == []


def test_everything_is_under_the_home(home):
    Chat(ID).save()
    assert home_folder() == home
    assert [path.name for path in (home / "chats").iterdir()] == [f"{ID}.json"]


def test_half_an_emoji_that_was_typed_is_left_out_everywhere(models):
    handlers = ChatHandlers(models)
    handed_back = [*run(handlers.send(ID, "One \ud83d two", None, *chosen(system="Be \udc00 brief.")))]
    handed_back += handlers.restore(ID, *chosen())
    handed_back.append(handlers.code(ID, *chosen(system="\ud83d")))
    assert not any("\\ud83d" in ascii(value) or "\\udc00" in ascii(value) for value in handed_back)
    assert Chat.load(ID).turns[0].user == "One  two"
