"""The calculator in a reply: called, its result forced, refused and cut off."""

import pytest

from nanochat_core.engine.reply import Text, ToolCall
from tests.support.scripted import HI, OUTPUT, OUTPUT_END, PYTHON, PYTHON_END, TOKENIZER, says, scripted_engine


def test_tool_call_in_a_stream():
    before, expression, after = (TOKENIZER.encode(text) for text in ("It is ", "2*(3+4)", " now."))
    engine = scripted_engine(says(*before, PYTHON, *expression, PYTHON_END, *after))
    events = list(engine.events(HI, temperature=0.0))
    done = events.pop()
    assert "".join(event.text for event in events if isinstance(event, Text)) == "It is  now."
    assert [event for event in events if isinstance(event, ToolCall)] == [ToolCall("2*(3+4)", "14")]
    forced = [OUTPUT, *TOKENIZER.encode("14"), OUTPUT_END]
    assert (done.reason, done.cut_tokens) == ("stop", 0)
    assert done.tokens == len(before) + len(expression) + 2 + len(forced) + len(after)
    assert engine.reply(HI, temperature=0.0) == "It is  now."
    [ids] = engine.generate_batch([TOKENIZER.render_prompt(HI)], 100)
    assert ids == [*before, PYTHON, *expression, PYTHON_END, *forced, *after]


@pytest.mark.parametrize("expression", ["2**3", "1/0", "", "hello", "__import__('os')"])
def test_refused_expression_forces_nothing(expression):
    own = [PYTHON, *TOKENIZER.encode(expression), PYTHON_END, *TOKENIZER.encode("Hm.")]
    engine = scripted_engine(says(*own))
    events = list(engine.events(HI, temperature=0.0))
    assert events[:-1] == [ToolCall(expression, None), *[Text(letter) for letter in "Hm."]]
    assert engine.generate_batch([TOKENIZER.render_prompt(HI)], 100) == [own]


def test_the_result_is_cut_off_at_max_tokens():
    own = [PYTHON, *TOKENIZER.encode("999*999"), PYTHON_END]
    engine = scripted_engine(says(*own))
    for extra in (1, 2, 3):
        [ids] = engine.generate_batch([TOKENIZER.render_prompt(HI)], len(own) + extra)
        assert ids == [*own, OUTPUT, *TOKENIZER.encode("998001")][: len(own) + extra]
        done = list(engine.events(HI, max_tokens=len(own) + extra, temperature=0.0))[-1]
        assert (done.reason, done.tokens) == ("length", len(own) + extra)
