"""A model that gives NaN is found out by the compiled decode step as by torch: no NaN becomes a number on its way."""

import contextlib
import shutil
from unittest.mock import patch

import pytest
import torch

from nanochat_core.checkpoint.few_bits import BITS, quantize
from nanochat_core.engine.engine import Engine
from nanochat_core.model.decode_step import DecodeStep
from nanochat_core.native import build
from tests.support.tiny import tiny_model, tiny_tokenizer

NAN = float("nan")
DTYPES = [torch.float32, torch.bfloat16, torch.int8, torch.int4]
DAMAGES = {
    "one matrix": lambda model: model.transformer.h[0].mlp.c_fc.parameters(),
    "one block": lambda model: model.transformer.h[0].parameters(),
    "everything": lambda model: model.parameters(),
}
PATTERNS = [0x7FC00000, 0xFFC00000, 0x7FFF0000, 0xFFFF0000, 0x7FFFFFFF, 0xFFFFFFFF]
"""NaN of both signs with the fewest of its other bits set, the most that bf16 holds, and all."""
PLACES = {
    "table": lambda model: model.transformer.wte,
    "query": lambda model: model.transformer.h[0].attn.c_q,
    "key": lambda model: model.transformer.h[0].attn.c_k,
    "value": lambda model: model.transformer.h[0].attn.c_v,
    "hidden": lambda model: model.transformer.h[0].mlp.c_fc,
    "last": lambda model: model.transformer.h[1].mlp.c_proj,
    "head": lambda model: model.lm_head,
}


@pytest.fixture(scope="module", params=["this processor", "any"])
def processor(request, tmp_path_factory):
    """The compiled code for this processor, and as it is without instructions that not every one has."""
    if request.param == "this processor":
        yield
        return
    folder = tmp_path_factory.mktemp("any") / "c"
    shutil.copytree(build.SOURCES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with patch.multiple(build, SOURCES=folder, FOR_THIS_CPU=(None,)):
        build.library.cache_clear()
        yield
    build.library.cache_clear()


@pytest.fixture(autouse=True)
def _always(monkeypatch):
    """Also where torch would be faster, which depends on the processor."""
    monkeypatch.setattr(DecodeStep, "_most_tokens", property(lambda _: -1, lambda *_: None), raising=False)


def _in(dtype, model):
    if dtype in BITS:
        return quantize(model, dtype)
    model.compute_dtype = dtype
    return model.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_reply_says_it(processor, damage, dtype):
    model = tiny_model()
    for parameter in DAMAGES[damage](model):
        parameter.data.fill_(NAN)
    engine = Engine(_in(dtype, model), tiny_tokenizer())
    for way in (contextlib.nullcontext(), patch.object(DecodeStep, "__call__", lambda *_: None)):
        with way, pytest.raises(ValueError, match="not a number"):
            engine.reply([{"role": "user", "content": "Hi"}], max_tokens=4, temperature=0.0)
    assert model.decoder is not None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_one_weight_of_any_bits_reaches_the_logits(processor, place, dtype):
    ids, seen = torch.tensor([[1, 2], [3, 4], [2, 1]]), [512, 512, 512]
    if place == "table":
        seen[1] = 0  # it has not the token
    elif place == "head":
        seen = [1, 1, 1]
    for pattern in PATTERNS:
        model = tiny_model()
        PLACES[place](model).weight.data.view(torch.int32)[1, 5] = pattern - (1 << 32) * (pattern >> 31)
        model = _in(dtype, model)
        if dtype == torch.bfloat16:  # rounding to it leaves one NaN only
            PLACES[place](model).weight.data.view(torch.int16)[1, 5] = (pattern >> 16) - (1 << 16) * (pattern >> 31)
        logits = model(ids, cache=model.new_cache(3, 4))
        assert model.decoder is not None
        assert logits.isnan().sum((1, 2)).tolist() == seen, hex(pattern)
