"""A chat is kept under the home folder: restored when the page is loaded again, deleted when it is cleared."""

import pytest

from nanochat_core.paths import home as home_folder
from studio.chat_handlers import SETTINGS, ChatHandlers
from studio.chat_state import Chat
from tests.chatting import ID, A, B, chosen, run


def test_the_chat_survives_a_reload_and_is_deleted_when_cleared(models):
    handlers = ChatHandlers(models)
    run(handlers.send(ID, "One", None, *chosen()))
    restored = ChatHandlers(models).restore(ID, *chosen(seed=9, model_0=B))
    chat_id, bot, facts, other, _ = restored[:5]
    settings = dict(zip(SETTINGS, restored[5:14], strict=True))
    assert (settings["model_0"].value, settings["model_1"].value, settings["seed"]) == (A, B, 1)
    assert "'One'" in restored[-1]
    assert (chat_id, [message["content"] for message in bot]) == (ID, ["One", "Good day."])
    assert "30 tokens" in facts
    assert len(other) == 1
    handlers.clear(ID)
    assert Chat.load(ID).turns == []
    assert len(handlers.restore("", *chosen())[0]) == 16


@pytest.mark.parametrize("chat_id", ["../../../etc/passwd", "", "0123456789ABCDEF", None])
def test_an_id_from_the_browser_reaches_no_other_file(home, chat_id):
    with pytest.raises(ValueError, match="cannot be found"):
        Chat(chat_id).save()
    assert list(home.iterdir()) == []


def test_everything_is_under_the_home(home):
    Chat(ID).save()
    assert home_folder() == home
    assert [path.name for path in (home / "chats").iterdir()] == [f"{ID}.json"]
