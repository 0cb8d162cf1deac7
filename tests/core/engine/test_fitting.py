"""Fitting a conversation into the context: newest turns stay, the system text stays, all is counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat_core.engine.fitting import SMALLEST_ROOM, fit_prompt
from nanochat_core.tokenizer.compiled import NANOCHAT_PATTERN
from nanochat_core.tokenizer.tokenizer import Tokenizer
from tests.support.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def conversation(texts, system=None):
    messages = [{"role": "system", "content": system}] if system is not None else []
    for number, text in enumerate(texts):
        messages.append({"role": "assistant" if number % 2 else "user", "content": text})
    return messages


def test_what_fits_is_left_alone():
    messages = conversation(["Hi", "Hello", "more"], "Be kind.")
    ids = TOKENIZER.render_prompt(messages)
    prompt = fit_prompt(TOKENIZER, messages, len(ids))
    assert (prompt.ids, prompt.dropped_messages, prompt.question_cut, prompt.cut_tokens) == (ids, 0, False, 0)
    assert fit_prompt(TOKENIZER, {"messages": messages}, len(ids)) == prompt


@pytest.mark.parametrize("system", [None, "Be kind."])
def test_oldest_turns_go_first(system):
    texts = ["one two three", "four", "five six", "seven", "eight"]
    whole = len(TOKENIZER.render_prompt(conversation(texts, system)))
    for dropped in (2, 4):
        expected = TOKENIZER.render_prompt(conversation(texts[dropped:], system))
        prompt = fit_prompt(TOKENIZER, conversation(texts, system), len(expected))
        assert (prompt.ids, prompt.dropped_messages) == (expected, dropped)
        assert prompt.cut_tokens == whole - len(expected)
        assert not prompt.question_cut


def test_the_answer_to_be_made_again_does_not_count():
    messages = conversation(["Hi", "Hello", "more", "a long answer " * 50])
    ids = TOKENIZER.render_prompt(messages)
    assert fit_prompt(TOKENIZER, messages, len(ids)).ids == ids
    assert fit_prompt(TOKENIZER, messages, len(ids) - 1).dropped_messages == 2


def test_the_end_of_a_long_question_stays_and_the_system_text():
    prompt = fit_prompt(TOKENIZER, conversation(["word " * 200 + "What is it?"], "Be kind."), 40)
    text = TOKENIZER.decode(prompt.ids)
    assert len(prompt.ids) == 40
    assert text.startswith("<|bos|><|user_start|>Be kind.\n\n")
    assert text.endswith("What is it?<|user_end|><|assistant_start|>")
    assert prompt.question_cut


def test_tool_parts_in_old_turns():
    parts = [{"type": "python", "text": "1+1"}, {"type": "python_output", "text": "2"}]
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": parts}] * 20
    messages.append({"role": "user", "content": "and now?"})
    prompt = fit_prompt(TOKENIZER, messages, 60)
    assert prompt.ids == TOKENIZER.render_prompt(messages[prompt.dropped_messages :])
    assert len(TOKENIZER.render_prompt(messages[prompt.dropped_messages - 2 :])) > 60


def test_a_turn_goes_when_the_system_text_costs_more_beside_another_message():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"\n\n": 256, b"\n\n\n": 257}
    tokenizer = Tokenizer.from_ranks(ranks, NANOCHAT_PATTERN)
    messages = conversation(["x", "ok", "\nQ"], "S")
    counted = len(tokenizer.render_prompt([messages[0], messages[3]])) + len("x" + "ok") + 4
    assert len(tokenizer.render_prompt(messages)) == counted + 1
    prompt = fit_prompt(tokenizer, messages, counted)
    assert prompt.ids == tokenizer.render_prompt([messages[0], messages[3]])
    assert (prompt.dropped_messages, prompt.question_cut) == (2, False)


words = st.text(alphabet="the of and\n 日é", max_size=30)


@settings(deadline=None)
@given(st.lists(words, min_size=1, max_size=9), st.none() | words, st.integers(0, 120))
def test_always_fits_and_is_counted(texts, system, room):
    messages = conversation(texts, system)
    whole = len(TOKENIZER.render_prompt(messages))
    prompt = fit_prompt(TOKENIZER, messages, room)
    assert len(prompt.ids) <= max(room, SMALLEST_ROOM)
    assert prompt.cut_tokens == whole - len(prompt.ids)
    assert prompt.ids[:2] == [TOKENIZER.bos, TOKENIZER.special("<|user_start|>")]
    assert prompt.ids[-2:] == [TOKENIZER.special("<|user_end|>"), TOKENIZER.special("<|assistant_start|>")]
    assert prompt.dropped_messages % 2 == 0
    if whole <= room:
        assert prompt.cut_tokens == 0
