"""What a stream shows: no special tokens, whole characters, and nothing after the end."""

import pytest

from nanochat_core.engine.reply import Text, ToolCall
from tests.support.scripted import (
    ASSISTANT_END,
    HI,
    OUTPUT,
    OUTPUT_END,
    PYTHON,
    PYTHON_END,
    TOKENIZER,
    says,
    says_at_each_place,
    scripted_engine,
)


def test_odd_special_tokens_are_never_visible():
    own = [PYTHON_END, *b"a", OUTPUT, *b"bcd", OUTPUT_END, *b"e", PYTHON, *b"f", PYTHON, *b"1+1", PYTHON_END]
    forced = [OUTPUT, *b"2", OUTPUT_END]
    rest = [*b"g", TOKENIZER.special("<|user_start|>"), *b"h", PYTHON, *b"left open"]
    engine = scripted_engine(says_at_each_place(*own, *forced, *rest))
    events = list(engine.events(HI, temperature=0.0))
    assert [event.text for event in events if isinstance(event, Text)] == ["a", "e", "g", "h"]
    assert [event for event in events if isinstance(event, ToolCall)] == [ToolCall("1+1", "2")]


@pytest.mark.parametrize("stop", [ASSISTANT_END, TOKENIZER.bos])
def test_stop_tokens(stop):
    engine = scripted_engine(says(*b"ab", then=stop))
    assert list(engine.stream(HI, temperature=0.0)) == ["a", "b"]


def test_characters_are_never_split():
    text = "Grüße, 日本 🙂!"
    engine = scripted_engine(says(*text.encode()))  # the ids below 256 are the single bytes
    pieces = list(engine.stream(HI, temperature=0.0))
    assert pieces == list(text)


@pytest.mark.parametrize(
    ("own", "pieces"),
    [
        (b"ab\xe6\x97", ["a", "b", "\ufffd"]),
        (b"a\xffb", ["a", "\ufffd", "b"]),
        ((*b"\xf0\x9f", PYTHON, PYTHON_END, *b"\x99\x82c"), ["\ufffd", "\ufffd", "\ufffd", "c"]),
    ],
)
def test_broken_characters_become_replacements(own, pieces):
    engine = scripted_engine(says(*own))
    assert list(engine.stream(HI, temperature=0.0)) == pieces


def test_a_character_cut_off_by_max_tokens():
    engine = scripted_engine(says(*"日本".encode()))
    assert "".join(engine.stream(HI, max_tokens=4, temperature=0.0)) == "日\ufffd"
