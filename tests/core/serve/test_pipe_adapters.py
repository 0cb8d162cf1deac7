"""The process behind Chat, asked for one adapter after the other: their base is read once."""

import io
import json

import pytest
import torch

from nanochat_core.checkpoint.fastest import AUTO
from nanochat_core.checkpoint.loading import load_model
from nanochat_core.engine.engine import Engine
from nanochat_core.serve.messages import Generate, Load
from nanochat_core.serve.pipe import ModelServer
from tests.support.adapters import install_adapter
from tests.support.serving import user
from tests.support.tiny import install_tiny_model


def _answers(server: ModelServer, request) -> list[dict]:
    begin = server._output.tell()
    server._answer(1, request)
    server._output.seek(begin)
    return [json.loads(line) for line in server._output.read().splitlines()]


@pytest.mark.parametrize("merged_on", [(), ("cpu",)])
def test_the_base_is_read_once_for_all_of_its_adapters(home, monkeypatch, merged_on):
    """Merged, as on a CPU, they are as fast as a model without an adapter, and each is read by itself."""
    monkeypatch.setattr("nanochat_core.serve.pipe.MERGED_ON", merged_on)
    install_tiny_model(home)
    names = [install_adapter(home, tag, seed) for seed, tag in enumerate(("one", "two"), start=1)]
    server, bases = ModelServer(io.BytesIO(), io.StringIO()), []
    for name in (*names, "pretrained/tiny"):
        loaded = _answers(server, Load(name))[-1]
        assert (loaded["kind"], loaded["name"]) == ("loaded", name)
        assert loaded["parameters"] == sum(parameter.numel() for parameter in load_model(name)[0].parameters())
        bases.append(server._base)
        events = _answers(server, Generate(user("Which word?"), {"max_tokens": 12, "temperature": 0.0}))
        said = "".join(event["text"] for event in events if event["kind"] == "text")
        model, tokenizer, _ = load_model(name, dtype=torch.float32)
        assert said == Engine(model, tokenizer).reply(user("Which word?"), max_tokens=12, temperature=0.0)
    assert len({id(base) for base in bases}) == (3 if merged_on else 1)
    assert _answers(server, Load(names[0], dtype="bfloat16"))[-1]["dtype"] == "bfloat16"
    assert server._base is not bases[0]


def test_the_fastest_dtype_is_measured_and_told(home, monkeypatch):
    rates = {"float32": 10.0, "bfloat16": 50.0, "int8": 51.0, "int4": 20.0}
    monkeypatch.setattr("nanochat_core.checkpoint.fastest.measure", lambda: rates)
    install_tiny_model(home)
    told = _answers(ModelServer(io.BytesIO(), io.StringIO()), Load("pretrained/tiny", device="cpu", dtype=AUTO))
    assert any("bfloat16 is the fastest on this machine" in answer.get("text", "") for answer in told)
    assert (told[-1]["dtype"], told[-1]["fastest"]) == ("bfloat16", "bfloat16")
