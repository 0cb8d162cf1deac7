"""Chat is ready when it is opened: the newest run beside its base, both loaded where there is room for them."""

from types import SimpleNamespace

import gradio as gr
import pytest

from nanochat_core.runs.run import Run
from nanochat_core.system.hardware import Gpu, Hardware
from studio.chat_tab import models as chat_models
from studio.chat_tab import warming
from studio.chat_tab.handlers import ChatHandlers
from studio.chat_tab.settings import SETTINGS
from studio.chat_tab.state import Chat, Reply, Turn
from tests.e2e.invented import invent_run
from tests.support.chatting import ID, A, B, chosen
from tests.support.pressed import Pressed

GB = 10**9


class Warmed:
    """Models that count what was loaded ahead."""

    def __init__(self):
        self.asked = []

    def warm(self, name, step=None, report=None, dtype=None):
        self.asked.append((name, step, dtype))
        report(0.5, "Loading")
        return True

    def loaded(self):
        return []


def with_model(tag, state="finished", **settings) -> Run:
    run = invent_run(tag, state, steps=20, done=20, **settings)
    for ending in ("model_000020.pt", "meta_000020.json"):
        (run.path / ending).write_bytes(b"{}")
    return run


def restored(**present):
    values = ChatHandlers(Warmed()).restore(ID, *chosen(**present))[5:]
    return dict(zip(SETTINGS, values, strict=True))


def test_the_newest_finished_run_stands_beside_what_it_was_trained_from(home):
    with_model("first")
    with_model("second", from_finetuned="first")
    with_model("third", "running")
    assert chat_models.defaults() == ("finetuned/first@20", "finetuned/second@20")
    values = restored(both=False, model_0=None, model_1=None)
    assert values["both"]["value"] is True
    assert (values["model_0"]["value"], values["model_1"]["value"]) == chat_models.defaults()


def test_a_chat_in_which_something_was_said_keeps_its_models(home, models):
    with_model("mine")
    settings = dict(zip(SETTINGS, chosen(both=False, model_0=A, model_1=B)))
    Chat(ID, [Turn("Hello", [Reply("one"), None])], settings).save()
    values = restored(both=True, model_0=None, model_1=None)
    assert values["both"]["value"] is False
    assert (values["model_0"]["value"], values["model_1"]["value"]) == (A, B)


def test_another_tab_asks_for_a_run_beside_its_base(home):
    with_model("mine")
    handlers = chat_models.ModelHandlers(Warmed())
    both, base, tuned = handlers.wished(["mine", "", "1"], False, None, None)
    assert both["value"] is True
    assert base["value"].startswith("starter@")
    assert tuned["value"] == "finetuned/mine@20"
    assert handlers.wished([], False, None, None) == (gr.skip(),) * 3


@pytest.fixture
def machine(monkeypatch):
    """Sets what is free on this machine."""

    def make(free=16 * GB, gpus=(), trains=False):
        monkeypatch.setattr(warming.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
        monkeypatch.setattr(warming, "find_hardware", lambda: Hardware(gpus, False, 2, 16 * GB))
        monkeypatch.setattr(warming.launching, "active_run", lambda: "a run" if trains else None)

    make()
    return make


def test_only_where_it_fits(home, models, machine):
    assert warming.hindrance("pretrained/one", 7) == ""
    machine(free=GB)
    assert "free memory" in warming.hindrance("pretrained/one", 7)
    card = Gpu(0, "card", 24 * GB, 2 * GB)
    machine(gpus=(card,))
    assert warming.hindrance("pretrained/one", 7) == ""
    machine(gpus=(card,), trains=True)
    assert "training" in warming.hindrance("pretrained/one", 7)
    machine(gpus=(Gpu(0, "card", 24 * GB, 24 * GB),))
    assert "GPU's free memory" in warming.hindrance("pretrained/one", 7)


def test_an_open_tab_loads_what_it_shows(home, models, machine):
    warmed = Warmed()
    handlers = chat_models.ModelHandlers(warmed)
    shown = list(handlers.warm(True, ID, True, A, None))
    assert 'aria-valuenow="50"' in shown[0]
    assert warmed.asked == [("pretrained/one", 7, None)]
    for closed in ((False, ID, True, A), (True, "", True, A), (True, ID, False, A), (True, ID, True, "gone")):
        assert list(handlers.warm(*closed, None)) == [gr.skip()]
    machine(free=GB)
    assert "it would take more than half of the free memory" in next(handlers.warm(True, ID, True, A, None))
    assert len(warmed.asked) == 1


def test_a_space_loads_nothing_ahead(home, models, machine, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "me/studio")
    assert list(chat_models.ModelHandlers(Warmed()).warm(True, ID, True, A, None)) == [gr.skip()]


def test_no_model_s_loading_is_shown_beside_another_one(page):
    pressed = Pressed(page)
    for number in (0, 1):
        line = pressed.page.blocks[pressed.ids[f"chat_about_{number}"]]
        shows = [event for event in pressed.page.fns.values() if event.outputs == [line] and event.types_generator]
        assert len(shows) == 3  # Load, and what is loaded ahead when the page or the tab opens
        assert all(pressed.is_ended_by(event, f"chat_model_{number}", "input") for event in shows)
