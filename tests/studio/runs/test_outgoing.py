"""What a run can be exported as in the Evaluate tab, with sizes and expected speeds before the choice."""

import pytest

from nanochat_core.cli.main import main
from nanochat_core.export.llama import speed
from nanochat_core.export.llama.quants import QUANTS, file_bytes, weights_read
from nanochat_core.model.shape import GPTConfig
from studio.evaluate_tab.outgoing_panel import codes, forms
from studio.runs import outgoing
from tests.support.published_run import make_run


def test_each_quantization_is_offered_with_its_size_and_speed(home):
    make_run(home)
    labels = {form: label for label, form in outgoing.export_forms("mine")}
    assert list(labels) == ["transformers", *QUANTS]
    assert labels["f32"].startswith("GGUF F32: 655 kB, about ")
    assert labels["q8_0"].startswith("GGUF Q8_0: 174 kB, about ")
    assert all("tokens/s here" in labels[name] for name in QUANTS)
    assert forms("mine").choices == [(label, form) for form, label in labels.items()]


@pytest.mark.parametrize("generation", "BE")
def test_other_generations_have_no_gguf(home, generation):
    make_run(home, generation=generation)
    assert [form for _, form in outgoing.export_forms("mine")] == ["transformers"]


def test_without_a_run_or_its_checkpoint(home):
    run = make_run(home)
    for path in run.path.glob("model_*.pt"):
        path.unlink()
    for tag in ("mine", "none", None, ""):
        assert [form for _, form in outgoing.export_forms(tag)] == ["transformers"]


def test_the_commands_that_are_shown_do_the_same(home, tmp_path):
    make_run(home)
    export, publish = codes("mine", "me/x", False, False, False, True, "q4_0").splitlines()
    assert export.endswith("mine-gguf-q4_0 --format gguf --quant q4_0")
    assert publish.endswith("me/x --gguf q8_0")
    words = outgoing.export_words("mine", "q4_0")
    assert main(words) == 0
    assert (home / "models" / "exported" / "mine-gguf-q4_0" / "mine-Q4_0.gguf").is_file()


def test_speed_follows_memory_and_then_the_processor(monkeypatch):
    d32 = GPTConfig()
    monkeypatch.setattr(speed, "memory_rate", lambda: 10e9)
    monkeypatch.setattr(speed, "_threads", lambda: 8)
    read = weights_read(d32)
    assert read == 32 * 12 * 2048**2 + 65536 * 2048
    assert file_bytes(d32, QUANTS["f32"]) == 4 * (read + 65536 * 2048) == 4 * 1_879_048_192
    assert speed.tokens_per_second(d32, QUANTS["f32"]) == pytest.approx(10e9 / (4 * read))
    assert speed.tokens_per_second(d32, QUANTS["q4_0"]) == pytest.approx(10e9 / (18 / 32 * read))
    monkeypatch.setattr(speed, "_threads", lambda: 1)
    assert speed.tokens_per_second(d32, QUANTS["q4_0"]) == pytest.approx(1 / (read * 0.12e-9))


def test_the_memory_rate_is_measured():
    assert 1e8 < speed.memory_rate() < 1e13
