"""The models of the Chat tab: which are offered, loading and unloading them, and the code that names them."""

import json

import pytest

from studio.chat_tab import models as chat_models
from studio.chat_tab.settings import SETTINGS, ChatSettings, chat_code
from studio.chat_tab.state import Chat, Reply, Turn
from tests.support.chatting import ID, A, chosen


def test_loading_shows_how_far_it_is_and_unloading_what_it_gave_back(models):
    models.loading = 0.5
    handlers = chat_models.ModelHandlers(models)
    shown = list(handlers.load(A))
    assert 'aria-valuenow="50"' in shown[0]
    assert "Loading model_000007.pt" in shown[0]
    with pytest.raises(ValueError, match="damaged"):
        list(handlers.load("pretrained/broken@7"))
    assert "Unloaded: 123 MB given back" in handlers.unload(A)


def test_a_choice_made_while_the_lists_are_fetched_is_kept_and_a_typed_name_counts(models):
    handlers = chat_models.ModelHandlers(models)
    first, second, *_ = handlers.lists("pretrained/one", "finetuned/gone@3")
    assert "value" not in first
    assert second["value"] not in (None, "finetuned/gone@3")


def test_a_run_has_its_best_and_its_last_checkpoint(home, monkeypatch):
    folder = home / "models" / "finetuned" / "mine"
    folder.mkdir(parents=True)
    for step in (20, 40):
        (folder / f"model_{step:06d}.pt").write_bytes(b"x")
        (folder / f"meta_{step:06d}.json").write_bytes(b"{}")
    (folder / "config.json").write_text(json.dumps({"settings": {}}))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "best_step": 20}))
    mine = [choice for choice in chat_models.choices() if "mine" in choice[1]]
    assert mine == [("mine: best (step 20)", "finetuned/mine@20"), ("mine: last (step 40)", "finetuned/mine@40")]
    assert chat_models.defaults()[1] == "finetuned/mine@20"
    assert chat_models.key_of("finetuned/mine@20") == ("finetuned/mine", 20)
    assert chat_models.key_of(str(folder)) == (str(folder), 40)
    with pytest.raises(ValueError, match="no checkpoint of step 30"):
        chat_models.key_of("finetuned/mine@30")


def test_the_code_is_python_that_names_the_models_and_the_settings():
    chat = Chat(ID, [Turn('It\'s a "test"', [Reply("one"), None])])
    settings = dict(zip(SETTINGS, chosen(both=True, model_0="starter@800", model_1="finetuned/mine@20", max_tokens=5)))
    code = chat_code(chat, ChatSettings(**settings))
    compile(code, "cell", "exec")
    assert "load_model('starter', step=800)" in code
    assert "stream(messages, max_tokens=5, temperature=0.7, top_k=50, seed=1)" in code
