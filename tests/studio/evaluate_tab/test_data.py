"""Two models on the same conversations: measured once, shown with the verdict, and measured again for another file."""

import threading

import numpy as np
import pytest

from nanochat_core.evaluation.results import result_path, results
from nanochat_core.system.files import sha256_of, write_json
from studio.evaluate_tab import data_panel
from studio.evaluate_tab.asking import Asking, Task
from tests.support.chatting import A, B, install_fake_models
from tests.support.pressed import Pressed, seen_by_another
from tests.support.tiny import write_conversations

LOSSES = {"pretrained/one": 1.0, "pretrained/two": 1.5}


@pytest.fixture
def path(home):
    install_fake_models(home)
    (home / "data").mkdir()
    return write_conversations(home / "data" / "mine.jsonl", 40)


class FakeModels:
    """Measures as the process does: by files."""

    def __init__(self):
        self.go_on = threading.Event()
        self.go_on.set()

    def evaluate(self, models, wanted, report=None, stop=None):
        report(0.5, "one: conversation 20 of 40")
        self.go_on.wait()
        noise = np.random.default_rng(1).normal(0, 0.1, 40)
        for name, step in models:
            nats = (LOSSES[name] + noise) * 10
            columns = {"nats": nats, "tokens": np.full(40, 10), "right": np.full(40, 5), "nats_of_bytes": nats}
            columns |= {"bytes": np.full(40, 30)}
            figures = {"loss": LOSSES[name], "bits_per_byte": 0.5, "token_accuracy": 0.5}
            place = result_path(name, "data", name[::-1].replace("/", ""), wanted)
            place.parent.mkdir(parents=True, exist_ok=True)
            known = {
                "model": name,
                "step": step,
                "complete": True,
                "made": "1",
                "file_sha256": sha256_of(wanted["data"]),
            }
            write_json(
                place, {**known, **figures, "conversations": {k: list(map(float, v)) for k, v in columns.items()}}
            )
        return True


def test_two_models_are_compared_on_a_dataset(path):
    assert data_panel.choices(None)["value"] == str(path)
    assert data_panel.shown(A, B, str(path)) == ""
    progress, last = list(data_panel.measure(Asking(FakeModels()), A, B, str(path)))
    assert "conversation 20 of 40" in progress[0]
    assert progress[1].visible
    said, stop = last
    assert (said, stop.visible) == ("", False)
    proof = data_panel.shown(A, B, str(path))
    assert 'class="verdict good"' in proof
    assert "0.5000 lower" in proof
    assert "50.0%" in proof
    assert data_panel.shown(B, A, str(path)).startswith('<p class="verdict worse"')
    with open(path, "a") as file:
        file.write("\n")
    assert data_panel.shown(A, B, str(path)) == ""  # another file by now


def test_results_that_were_read_equally_far_are_compared_though_there_is_a_newer_one(path):
    list(data_panel.measure(Asking(FakeModels()), A, B, str(path)))
    (found,) = results("pretrained/one", "data")
    shorter = found["conversations"] | {"bytes": [20] * 40}
    write_json(result_path("pretrained/one", "data", "x" * 12, {}), {**found, "made": "2", "conversations": shorter})
    assert "0.5000 lower" in data_panel.shown(A, B, str(path))


def test_what_cannot_be_measured_is_said(path):
    assert "There is no dataset" in data_panel.shown(A, B, "/etc/passwd")
    assert data_panel.shown(A, A, str(path)) == ""


@pytest.fixture
def models(page):
    """In the place of the page's."""
    asking, fake = asking_of(page), FakeModels()
    was, asking._models = asking._models, fake
    yield fake
    fake.go_on.set()
    asking._models, asking._task = was, None


def asking_of(page):
    [event] = Pressed(page).events("eval_measure", "click")
    return event.fn.__wrapped__.args[0]


def test_what_is_chosen_meanwhile_is_what_is_shown_and_who_comes_second_may_stop_the_first(path, page, models):
    other = write_conversations(path.with_name("other.jsonl"), 30)
    pressed = Pressed(page, eval_model=A, eval_other=B, eval_data=str(path))
    measuring = pressed.begin(pressed.events("eval_measure", "click")[0])
    next(measuring)
    pressed.do("eval_data", "change", eval_data=str(other))
    list(measuring)
    assert pressed["eval_data_proof"] == ""
    pressed.do("eval_data", "change", eval_data=str(path))
    assert "0.5000 lower" in pressed["eval_data_proof"]
    asking_of(page)._task = Task("data", "", [])  # someone else's
    pressed.do("eval_measure")
    assert "or stop it" in pressed["eval_data_said"]
    assert pressed.shown["eval_measure_stop"]


def test_a_page_that_is_opened_meanwhile_shows_it_to_its_end_and_then_the_proof(path, page, models):
    models.go_on.clear()
    chosen = {"eval_model": A, "eval_other": B, "eval_data": str(path)}
    seen, watching = seen_by_another(page, "eval_measure", "eval_data_said", **chosen)
    assert "conversation 20 of 40" in seen["eval_data_said"]
    assert seen.shown["eval_measure_stop"]
    models.go_on.set()
    list(watching)
    assert (seen["eval_data_said"], seen.shown["eval_measure_stop"]) == ("", False)
    assert "0.5000 lower" in seen["eval_data_proof"]
