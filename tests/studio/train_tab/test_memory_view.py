"""Before the start each mode and each model says whether it fits, and what the memory is for."""

import pytest

from nanochat_core.config import MEMORY_MODES, FinetuneConfig
from nanochat_core.system import hardware
from nanochat_core.system.hardware import Gpu, Hardware
from studio.train_tab import before_start, choices, memory_view
from studio.train_tab.counting import Counting
from studio.train_tab.handlers import Handlers
from tests.support.training_form import form, write_form_data

CARD = Hardware((Gpu(0, "RTX 4090", 24 << 30, 0, (8, 9)),), False, 8, 64 << 30)
CPU = Hardware((), False, 8, 64 << 30)
D32 = FinetuneConfig("-", model_tag="d32", device_batch_size=1)


def test_each_mode_has_a_badge_and_the_taken_one_is_marked(home):
    plan = memory_view.plan_of(D32, CARD)
    shown = memory_view.memory_html(plan, "auto")
    assert shown.count("<li") == len(MEMORY_MODES)
    assert shown.count("fits your card") == 3
    assert shown.count("too large for your card") == 2
    assert "aria-current" in shown.split("<b>layerwise</b>")[0].rsplit("<li", 1)[1]
    assert "<details>" in shown
    assert "optimizer&#x27;s state" in shown


def test_a_chosen_mode_that_is_too_large_comes_with_a_remedy(home):
    plan = memory_view.plan_of(D32, CARD)
    assert "Choose layerwise, or auto" in memory_view.memory_html(plan, "plain")
    assert "Choose" not in memory_view.memory_html(plan, "offloaded")
    small = Hardware((Gpu(0, "old", 2 << 30, 0, (7, 5)),), False, 8, 64 << 30)
    assert "No mode fits" in memory_view.memory_html(memory_view.plan_of(D32, small), "plain")


def test_every_model_says_whether_it_fits(home, monkeypatch):
    monkeypatch.setattr(before_start, "find_hardware", lambda: CPU)
    assert before_start.base_choices()[0] == ("starter (small, for practice), fits your machine", "starter")
    monkeypatch.setattr(before_start, "find_hardware", lambda: CARD)
    assert before_start.base_choices()[0][0].endswith("fits your card")


def test_a_model_whose_shape_is_not_known_has_no_badge(home, monkeypatch):
    monkeypatch.setattr(before_start, "bases", lambda: [choices.Base("pretrained/sft/odd", "odd (sft)")])
    assert before_start.base_choices() == [("odd (sft)", "pretrained/sft/odd")]


def test_the_preview_shows_the_plan_of_the_data(home):
    data = write_form_data(home)
    values = [*form(memory="layerwise").values()]
    *_, last = Handlers(CPU).preview(Counting(), "starter", data, "mine", [], 1, *values)
    assert "aria-current" in last[0].split("<b>layerwise</b>")[0].rsplit("<li", 1)[1]
    assert "fits your machine" in last[0]


@pytest.mark.parametrize("memory", ["auto", *MEMORY_MODES])
def test_the_form_offers_every_mode(memory):
    assert memory in choices.CHOICES["memory"]
    assert hardware.find_hardware().cores >= 1
