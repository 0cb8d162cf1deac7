"""Several models behind one server: a request's model chooses, and adapters of one base share its memory."""

import pytest
import torch
from starlette.testclient import TestClient

from nanochat_core.checkpoint.loading import load_model
from nanochat_core.checkpoint.sharing import load_models, with_own_adapter
from nanochat_core.cli.serve import ServeCommand, _load
from nanochat_core.engine.engine import Engine
from nanochat_core.paths import find_model
from nanochat_core.serve.http import build_app
from tests.support.adapters import install_adapter
from tests.support.serving import user
from tests.support.tiny import install_tiny_model, tiny_model

IDS = torch.arange(60).view(2, 30) * 7 % 500
CPU = torch.device("cpu")


@pytest.fixture
def names(home):
    install_tiny_model(home)
    return [install_adapter(home, tag, seed) for seed, tag in enumerate(("one", "two"), start=1)]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.int8])
def test_two_adapters_and_their_base_hold_its_weights_once(names, dtype):
    files = [find_model(name) for name in ("pretrained/tiny", *names)]
    (base, _), *adapted = load_models(files, CPU, dtype)
    for name, parameter in base.named_parameters():
        assert {model.get_parameter(name).data_ptr() for model, _ in adapted} == {parameter.data_ptr()}
    said = [model(IDS) for model in (base, *(model for model, _ in adapted))]
    assert len({logits.sum().item() for logits in said}) == 3


def test_unmerged_they_say_what_they_say_merged(names):
    shared = load_models([find_model(name) for name in names], CPU, torch.float32)
    for name, (model, _) in zip(names, shared):
        assert model.is_adapted
        [(alone, _)] = load_models([find_model(name)], CPU, torch.float32)
        assert not alone.is_adapted
        assert (model(IDS) - alone(IDS)).abs().max() < 1e-4
        assert torch.equal(alone(IDS), load_model(name, dtype=torch.float32)[0](IDS))


def test_an_adapter_of_another_shape_is_refused(names):
    with pytest.raises(ValueError, match=r"'finetuned/one' \(step 5\) does not fit its base model at transformer.h."):
        with_own_adapter(tiny_model(n_embd=128), find_model("finetuned/one"))


def test_the_field_model_chooses_among_them(names):
    served = _load(ServeCommand(max_batch=2, device_type="cpu"), ["pretrained/tiny", *names], None)
    client = TestClient(build_app(*served), base_url="http://127.0.0.1")
    listed = [card["id"] for card in client.get("/v1/models").json()["data"]]
    assert listed == ["pretrained/tiny", *names]
    replies = {}
    for name in listed:
        body = {"model": name, "messages": user("Which word?"), "temperature": 0, "max_tokens": 12}
        answer = client.post("/v1/chat/completions", json=body).json()
        replies[name] = answer["choices"][0]["message"]["content"]
        assert answer["model"] == name
        model, tokenizer, _ = load_model(name, dtype=torch.float32)
        assert replies[name] == Engine(model, tokenizer).reply(user("Which word?"), max_tokens=12, temperature=0.0)
    assert len(set(replies.values())) == 3
    refused = client.post("/v1/chat/completions", json={"model": "finetuned/three", "messages": user("?")})
    assert refused.status_code == 404
    assert "This server has 'pretrained/tiny', 'finetuned/one', 'finetuned/two'." in refused.json()["error"]["message"]
    for one in served:
        assert one.answering.close(5)
