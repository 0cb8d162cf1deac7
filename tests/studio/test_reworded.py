"""Nothing depends on the words of a message: with every sentence reworded, the app still knows what is the case."""

import gradio as gr
import pytest

from nanochat_core import config
from nanochat_core.data import file_kinds
from nanochat_core.runs import failures, supervisor
from nanochat_core.runs.failures import Failure
from nanochat_core.runs.nodes import Nodes
from nanochat_core.runs.run import Run
from nanochat_core.system.hardware import find_hardware
from studio.datasets import importing
from studio.evaluate_tab import handlers
from studio.parts import html
from studio.parts.events import noted
from studio.runs import facts, launching, live
from studio.train_tab import choices, form
from studio.train_tab.handlers import Handlers
from tests.e2e.invented import invent_run


@pytest.fixture
def reworded(monkeypatch):
    """Every sentence about a failure and every note says something else."""
    monkeypatch.setattr(failures, "_KNOWN", tuple((known[0], "Oh.", "Well.", known[3]) for known in failures._KNOWN))
    signals = {name: ("Oh.", "Well.", told[2]) for name, told in failures._SIGNALS.items()}
    monkeypatch.setattr(failures, "_SIGNALS", signals)
    monkeypatch.setattr(failures, "_DIVERGED", "Well.")
    monkeypatch.setattr(html, "note", lambda *_: "<p>Something is the case.</p>")
    fault = file_kinds.Fault
    monkeypatch.setattr(file_kinds, "Fault", lambda level, kind, message, fix: fault(level, kind, "Oh.", "Well."))


@pytest.mark.parametrize(
    ("failure", "button"),
    [
        (Failure(0, -9), "Retry with device_batch_size 4"),
        (Failure(0, 1, "torch.OutOfMemoryError: CUDA out of memory."), "Retry with device_batch_size 4"),
        (Failure(0, 1, "Diverged: Oh."), "Retry with init_lr_frac 0.2"),
        (Failure(1, 1, "RuntimeError: NCCL error"), "Retry with one process"),
        (Failure(0, 1, "OSError: [Errno 28] No space left on device"), ""),
    ],
)
def test_the_retry_button(home, reworded, failure, button):
    run = invent_run("mine", "running", 40, 20, device_batch_size=8, init_lr_frac=0.4)
    assert supervisor._last_word(run, [failure], Nodes(1)) == 1
    assert launching.retry_label(run.status()) == button
    assert live.look("mine").retry == button


def test_the_device(home, reworded):
    run = invent_run("mine")
    run.log_file.write_text("")
    run.write_launch(nproc=2)
    assert facts.facts_of(run).device == "2 x cpu"


def test_success(home, reworded):
    invent_run("mine")
    assert handlers.rename_run("mine", " yours ", [])[1]["value"] == "yours"
    with pytest.raises(ValueError, match="already a run 'yours'"):
        handlers.rename_run("yours", "yours", [])
    assert Run.open("yours").tag == "yours"


def test_a_table(tmp_path, reworded):
    path = tmp_path / "mine.csv"
    path.write_text("prompt,completion\nhi,yo\n")
    assert len(importing.read_lines(path).lines) == 1


def test_what_is_packed(monkeypatch):
    monkeypatch.setattr(file_kinds, "_PACKED", ((b"\x1f\x8b", "something"),))
    monkeypatch.setattr(file_kinds, "_MAGIC", ((b"GIF8", "a compressed archive"),))
    assert file_kinds.foreign_kind(b"\x1f\x8b").fix == file_kinds._UNPACK
    assert file_kinds.foreign_kind(b"GIF8").fix == file_kinds._EXPORT


def test_the_kinds_of_settings(home, monkeypatch):
    monkeypatch.setattr(config, "_type_name", lambda _: "Oh.")
    config.settings.cache_clear()
    values = choices.preset_values(choices.PRESETS[0], "starter", "x.jsonl")
    fields = dict(zip(choices.form_names(), [*form.essential_fields(values), *form.other_fields(values)], strict=True))
    assert isinstance(fields["num_epochs"], gr.Number)
    assert isinstance(fields["questions_path"], gr.Textbox)
    made = choices.make_config("starter", "x.jsonl", "mine", values | {"num_epochs": 2.0, "questions_path": ""})
    assert (made.num_epochs, made.questions_path) == (2, None)


def test_only_a_run_that_was_started_is_scrolled_to(home, reworded, monkeypatch):
    train = Handlers(find_hardware())
    said = gr.HTML()
    values = "starter", "", "mine", [], 1, *[None] * len(choices.form_names())
    assert list(noted(train.start, said)(*values)) == [said]
    monkeypatch.setattr(train, "read", lambda *_: ())
    monkeypatch.setattr(launching, "start", lambda: invent_run("mine"))
    first = noted(train.start, said)(*values)[-1]
    monkeypatch.setattr(launching, "start", lambda: invent_run("other"))
    assert noted(train.start, said)(*values)[-1] != first
