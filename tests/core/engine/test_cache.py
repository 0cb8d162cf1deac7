"""The cache that a conversation's turns share: less is computed, and nothing changes."""

import pytest
import torch

from nanochat_core.engine import engine as engine_module
from nanochat_core.engine.engine import Engine
from tests.support.scripted import HI, TOKENIZER, Scripted, chat, says
from tests.support.tiny import tiny_model


def test_second_turn_uses_the_cache_again():
    model = Scripted(tiny_model(), says(*b"an answer"))
    engine = Engine(model, TOKENIZER)
    first = [{"role": "user", "content": "the water of many people"}]
    answer = engine.reply(first, temperature=0.0)
    second = [*first, {"role": "assistant", "content": answer}, {"role": "user", "content": "and now?"}]
    prompt = TOKENIZER.render_prompt(second)
    model.tokens_run = 0
    reply = engine.reply(second, temperature=0.0)
    assert model.tokens_run < len(prompt)
    assert reply == Engine(model, TOKENIZER).reply(second, temperature=0.0)


def smeared_model():
    """Of generation E, in which the token before has a strong say."""
    model = tiny_model("E", window_pattern="SL")
    with torch.no_grad():
        model.smear_lambda.fill_(30.0)
    return model


@pytest.mark.parametrize("make", [tiny_model, smeared_model])
def test_reused_and_grown_caches_change_nothing(monkeypatch, make):
    monkeypatch.setattr(engine_module, "CACHE_STEP", 8)
    engine = Engine(make(), TOKENIZER)
    for messages in (chat(0), chat(2), chat(5), HI, chat(3, "Be kind."), chat(3)):
        for max_tokens in (3, 20):
            fresh = Engine(make(), TOKENIZER)
            assert engine.reply(messages, max_tokens, 0.0) == fresh.reply(messages, max_tokens, 0.0)


def test_two_streams_at_once_and_abandoned_ones():
    engine = Engine(tiny_model(), TOKENIZER)
    alone = [engine.reply(messages, 20, 0.0) for messages in (HI, chat(2))]
    streams = [engine.stream(HI, 20, 0.0), engine.stream(chat(2), 20, 0.0)]
    abandoned = engine.stream(chat(1), 20, 0.0)
    next(abandoned)
    texts = ["", ""]
    while streams[0] or streams[1]:
        for index, stream in enumerate(streams):
            piece = next(stream, None) if stream else None
            streams[index] = stream if piece is not None else None
            texts[index] += piece or ""
    abandoned.close()
    assert texts == alone
    assert [engine.reply(messages, 20, 0.0) for messages in (HI, chat(2))] == alone
