"""Nothing depends on the words of a message: with every sentence reworded, the app still knows what is the case."""

import pytest

from nanochat_core.data import file_kinds
from nanochat_core.runs import failures, supervisor
from nanochat_core.runs.failures import Failure
from nanochat_core.runs.run import Run
from studio.datasets import importing
from studio.evaluate_tab import handlers
from studio.parts import html
from studio.runs import facts, launching, live
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
    assert supervisor._last_word(run, [failure]) == 1
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
