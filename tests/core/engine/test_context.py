"""The context's end: where replies stop, and what of a long conversation is left out, openly."""

import pytest

from nanochat_core.engine.engine import Engine
from nanochat_core.engine.reply import Done, Notice
from tests.support.scripted import HI, TOKENIZER, chat, says, scripted_engine
from tests.support.tiny import tiny_model


def test_rows_stop_at_the_context():
    engine = scripted_engine(says(*[5] * 500), sequence_len=40)
    asked = [[7] * length + [TOKENIZER.special("<|assistant_start|>")] for length in (3, 30, 38)]
    assert [len(reply) for reply in engine.generate_batch(asked, 20)] == [20, 9, 1]


@pytest.mark.parametrize("prompt", [[], [7] * 256, [7] * 1000])
def test_prompts_without_room(prompt):
    with pytest.raises(ValueError, match=r"Prompt 2 has .* 1 to 255"):
        Engine(tiny_model(), TOKENIZER).generate_batch([[1], prompt], 5)


def test_reason_length_and_context():
    engine = scripted_engine(says(*[5] * 500), sequence_len=40)
    length = len(TOKENIZER.render_prompt(HI))
    assert list(engine.events(HI, max_tokens=10))[-1].reason == "length"
    assert list(engine.events(HI, max_tokens=40 - length))[-1].reason == "length"
    done = list(engine.events(HI, max_tokens=41 - length))[-1]
    assert (done.reason, done.tokens) == ("context", 40 - length)
    assert list(engine.events(HI, max_tokens=1000))[-1] == Done("context", 40 - length, 0, pytest.approx(0, abs=60))


def test_old_turns_are_left_out_openly():
    engine = Engine(tiny_model(sequence_len=100), TOKENIZER)
    messages = chat(30, system="Be kind.")
    events = list(engine.events(messages, max_tokens=5))
    assert isinstance(events[0], Notice)
    assert isinstance(events[-1], Done)
    seen = len(TOKENIZER.render_prompt(messages)) - events[-1].cut_tokens
    assert 70 < seen <= 95
    assert f"({events[-1].cut_tokens} tokens)" in events[0].text
    assert "context of 100 tokens" in events[0].text
    assert list(engine.events(chat(1), max_tokens=5))[-1].cut_tokens == 0


@pytest.mark.parametrize("turns", [0, 3])
@pytest.mark.parametrize("system", [None, "Be kind.", "Be very kind. " * 60])
@pytest.mark.parametrize("question", ["word " * 300, "日本" * 200])
def test_a_question_longer_than_the_context(turns, system, question):
    engine = Engine(tiny_model(sequence_len=64), TOKENIZER)
    messages = chat(turns, system)
    messages[-1]["content"] = question
    events = list(engine.events(messages, max_tokens=500))
    assert "the beginning of the last one" in events[0].text
    assert events[-1].reason in ("stop", "context")
    assert events[-1].cut_tokens == len(TOKENIZER.render_prompt(messages)) - 56
