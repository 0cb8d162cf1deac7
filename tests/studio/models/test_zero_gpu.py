"""Chat on ZeroGPU, with a stand-in of the package `spaces`: off its Spaces the real one returns the function itself."""

import os
import subprocess
import sys
import threading

import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.engine.reply import Done, Text
from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.serve.messages import Failure, from_json
from tests.support.tiny import install_tiny_model

FAKE = """
asked = []

def GPU(function=None, duration=None):
    asked.append(duration)
    return function if function is not None else (lambda function: function)

def gradio_auto_wrap(function):
    return function
"""
HI = [{"role": "user", "content": "Hello, which word?"}]
SAMPLED = {"max_tokens": 20, "temperature": 0.9, "top_k": 40, "seed": 4}


@pytest.fixture
def spaces(tmp_path, monkeypatch):
    """`import spaces` finds the stand-in."""
    (tmp_path / "spaces.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    yield tmp_path
    sys.modules.pop("spaces", None)


@pytest.fixture
def models(home, spaces):
    from studio.models.zero_gpu import ZeroGpuModels

    for number, tag in enumerate(("one", "two", "three")):
        install_tiny_model(home, tag, seed=number)
    found = ZeroGpuModels()
    yield found
    found.close()


def test_a_reply_is_the_engines_own(models):
    import spaces

    from nanochat_core.checkpoint.loading import load_model
    from nanochat_core.engine.engine import Engine

    assert spaces.asked == [60]
    loaded = models.load("pretrained/one")
    assert (loaded.key, loaded.device, loaded.context) == (("pretrained/one", 7), "ZeroGPU", 256)
    *pieces, done = models.generate("pretrained/one", 7, HI, **SAMPLED)
    model, tokenizer, _ = load_model("pretrained/one")
    said = "".join(piece.text for piece in pieces if isinstance(piece, Text))
    assert said == Engine(model, tokenizer).reply(HI, **SAMPLED)
    assert isinstance(done, Done)
    assert done.tokens <= 20


def test_a_stop_ends_the_reply(models):
    models.load("pretrained/one")
    stop = threading.Event()
    events = models.generate("pretrained/one", 7, HI, stop, **{**SAMPLED, "max_tokens": 200})
    next(events)
    stop.set()
    assert [event.reason for event in events] == ["stopped"]


def test_two_models_are_held_and_given_back(models):
    for tag in ("one", "two", "three"):
        models.load(f"pretrained/{tag}")
    assert [one.name for one in models.loaded()] == ["pretrained/two", "pretrained/three"]
    assert models.rss_bytes("pretrained/two", 7) == models.unload("pretrained/two", 7) > 100_000
    assert models.unload("pretrained/two", 7) == 0
    with pytest.raises(ValueError, match="Load one first"):
        list(models.generate("pretrained/two", 7, HI))


def test_what_cannot_be_is_a_sentence(models, monkeypatch):
    import gradio as gr

    from studio.models import zero_gpu

    with pytest.raises(ValueError, match="There is no model"):
        models.load("pretrained/none")
    with pytest.raises(ValueError, match="rented GPU"):
        models.probe(FinetuneConfig(data_path="x.jsonl"))
    models.load("pretrained/one")

    with pytest.raises(ValueError, match="temperature"):
        list(models.generate("pretrained/one", 7, HI, temperature=-1.0))

    def fail(*_):
        raise gr.Error("quota exceeded.")
        yield

    monkeypatch.setattr(models, "_answer", fail)
    with pytest.raises(ValueError, match="lends no GPU now: quota exceeded"):
        list(models.generate("pretrained/one", 7, HI))

    def out_of_memory(*_):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(zero_gpu, "_engine", out_of_memory)
    assert [type(from_json(values)) for values in zero_gpu.answer("pretrained/one", 7, HI, {})] == [Failure]
    assert zero_gpu.is_zero_gpu()


@pytest.mark.processes
def test_the_page_uses_it_where_it_is_and_only_there(home, spaces):
    code = "import sys; from studio.app import chat_models_here as m; print(type(m()).__name__, 'torch' in sys.modules)"

    def built(**changes):
        environment = {**os.environ, "PYTHONPATH": f"{PROJECT_ROOT}{os.pathsep}{spaces}", **changes}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
        return done.stdout.split()

    assert built(SPACES_ZERO_GPU="true") == ["ZeroGpuModels", "False"]
    assert built(SPACES_ZERO_GPU="") == ["ModelProcesses", "False"]
