"""Sampled replies: seeds repeat them, temperature and top_k do what they say or are refused."""

import pytest
import torch

from nanochat_core.engine.engine import Engine
from nanochat_core.engine.sampling import MOST_TOP_K
from tests.support.scripted import HI, TOKENIZER, Scripted
from tests.support.tiny import tiny_model


def test_same_seed_same_reply():
    engine = Engine(tiny_model(), TOKENIZER)
    first = engine.reply(HI, max_tokens=40, temperature=1.0, seed=1)
    assert engine.reply(HI, max_tokens=40, temperature=1.0, seed=1) == first
    assert Engine(tiny_model(), TOKENIZER).reply(HI, max_tokens=40, temperature=1.0, seed=1) == first
    assert engine.reply(HI, max_tokens=40, temperature=1.0, seed=2) != first
    assert engine.reply(HI, max_tokens=40, temperature=1.0, seed=-1)


def test_top_k_one_is_greedy():
    engine = Engine(tiny_model(), TOKENIZER)
    greedy = engine.reply(HI, max_tokens=30, temperature=0)
    assert engine.reply(HI, max_tokens=30, temperature=5.0, top_k=1) == greedy
    assert engine.reply(HI, max_tokens=30, temperature=1e-300, top_k=None) == greedy


@pytest.mark.parametrize("none", [None, 0, MOST_TOP_K])
def test_top_k_off(none):
    engine = Engine(tiny_model(), TOKENIZER)
    assert engine.reply(HI, max_tokens=30, temperature=2.0, top_k=none) == engine.reply(
        HI, max_tokens=30, temperature=2.0, top_k=512
    )


def test_top_k_excludes_the_unlikely():
    model = Scripted(tiny_model(), lambda history: None)
    [ids] = Engine(model, TOKENIZER).generate_batch(
        [TOKENIZER.render_prompt(HI)], 60, temperature=50.0, top_k=3, seed=1
    )
    history = TOKENIZER.render_prompt(HI)
    assert len(ids) > 5
    with torch.no_grad():
        for token in ids:
            assert token in model(torch.tensor([history]))[0, -1].topk(3).indices
            history = [*history, token]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": -1}, "top_k is -1"),
        ({"max_tokens": 0}, "max_tokens is 0"),
    ],
)
def test_settings_out_of_range(settings, part):
    engine = Engine(tiny_model(), TOKENIZER)
    for call in (engine.stream, engine.events):
        with pytest.raises(ValueError, match=part):
            call(HI, **settings)
    with pytest.raises(ValueError, match=part):
        engine.generate_batch([[1]], **{"max_tokens": 5, **settings})
