"""Generation: the cache gives what recomputation gives, tool calls included, and a batch what each row gives alone."""

import pytest
import torch

from nanochat_core.engine import engine as engine_module
from nanochat_core.engine.engine import Engine
from nanochat_core.engine.reply import Reply, ToolCall
from tests.support.scripted import (
    ASSISTANT_END,
    HI,
    OUTPUT,
    OUTPUT_END,
    PYTHON,
    PYTHON_END,
    TOKENIZER,
    Scripted,
    calls_the_tool,
    prompts,
    scripted_engine,
)
from tests.support.tiny import tiny_model


def recomputed(model, prompt, max_tokens):
    """Greedy generation in the plainest way: the whole row anew for each token."""
    ids, forced = list(prompt), []
    while len(ids) < min(len(prompt) + max_tokens, model.config.sequence_len):
        token = forced.pop(0) if forced else int(model(torch.tensor([ids]))[0, -1].argmax())
        if token in (ASSISTANT_END, TOKENIZER.bos):
            break
        ids.append(token)
        said = ids[len(prompt) :]
        if token == PYTHON_END and PYTHON in said:
            expression = TOKENIZER.decode(said[len(said) - said[::-1].index(PYTHON) : -1])
            if "**" not in expression and expression.replace("*", "").replace("(3+4)", "").isdigit():
                forced = [OUTPUT, *TOKENIZER.encode(str(eval(expression))), OUTPUT_END]
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    ("generation", "pattern"), [("A", "L"), ("B", "SL"), ("C", "SSL"), ("D", "SL"), ("E", "SL"), ("E", "L")]
)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_cached_generation_equals_recomputation(generation, pattern, count):
    model = Scripted(tiny_model(generation, window_pattern=pattern, sequence_len=160, n_kv_head=1), calls_the_tool)
    asked = prompts(7)[:count]
    replies = Engine(model, TOKENIZER).generate_batch(asked, max_tokens=30)
    with torch.no_grad():
        assert replies == [recomputed(model, prompt, 30) for prompt in asked]
    assert any(OUTPUT in reply for reply in replies)
    assert count < 7 or max(len(prompt) for prompt in asked) > 128, "longer than the sliding windows"


def test_batch_equals_each_alone(monkeypatch):
    engine = scripted_engine(calls_the_tool)
    asked = prompts(23)
    alone = [engine.generate_batch([prompt], 40)[0] for prompt in asked]
    assert len({len(reply) for reply in alone}) > 1, "rows must end at different times for this to be a test"
    assert engine.generate_batch(asked, 40) == alone
    monkeypatch.setattr(engine_module, "MAX_ROWS", 5)
    assert engine.generate_batch(asked, 40) == alone
    monkeypatch.setattr(engine_module, "MAX_CACHE_BYTES", 1)
    assert engine.generate_batch(asked, 40) == alone


def test_sampled_batch_equals_each_alone():
    engine = scripted_engine(calls_the_tool)
    asked = prompts(6)
    alone = [engine.generate_batch([prompt], 25, temperature=1.0, top_k=20, seed=3)[0] for prompt in asked]
    assert engine.generate_batch(asked, 25, temperature=1.0, top_k=20, seed=3) == alone
    assert engine.generate_batch(asked, 25, temperature=1.0, top_k=20, seed=4) != alone


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_stream_and_batch_agree(temperature):
    engine = scripted_engine(calls_the_tool)
    messages = [{"role": "user", "content": "Hi!"}]
    [ids] = engine.generate_batch([TOKENIZER.render_prompt(messages)], 30, temperature, 50, 5)
    reply = Reply(TOKENIZER)
    told = [event for token in ids for event in reply.add(token)] + reply.finish()
    events = list(engine.events(messages, 30, temperature, 50, 5))
    assert events[:-1] == told
    assert events[-1].tokens == len(ids)
    assert ToolCall("7*(3+4)", "49") in told


def test_no_prompts():
    assert Engine(tiny_model(), TOKENIZER).generate_batch([], 10) == []


def test_malformed_messages_are_refused_at_once():
    with pytest.raises(ValueError, match="Message 1"):
        Engine(tiny_model(), TOKENIZER).stream([{"role": "assistant", "content": "x"}])


def test_model_and_tokenizer_that_do_not_match():
    with pytest.raises(ValueError, match="600 tokens and the tokenizer 512"):
        Engine(tiny_model(vocab_size=600), TOKENIZER)


def test_nan_is_a_clear_error():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[3, 5] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        list(Engine(model, TOKENIZER).stream(HI))
    with pytest.raises(ValueError, match="NaN"):
        Engine(model, TOKENIZER).generate_batch([[1, 2]], 3)
