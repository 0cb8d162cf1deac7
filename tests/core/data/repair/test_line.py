"""One line repaired: what comes of it follows the rules, what was done is said, and what no rule mends stays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat_core.data.line import judge_line
from nanochat_core.data.repair.line import repair_line
from tests.support.samples import GOOD, assistant, line, user

MENDED = {
    "another format": ('{"prompt": "p", "completion": "q"}', 1, "format"),
    "a foreign role": (line({"role": "human", "content": "a"}, assistant("b")), 1, "role"),
    "an array": (f"[{GOOD}, {GOOD}]", 2, "array"),
    "two on one line": (f"{GOOD}{GOOD}", 2, "shared a line"),
    "a comma after the end": (f"{GOOD},", 1, "comma"),
}


@pytest.mark.parametrize("name", MENDED)
def test_what_a_rule_mends(name):
    text, count, said = MENDED[name]
    lines, notes = repair_line(text.encode())
    assert len(lines) == count
    assert said in " ".join(note.text for note in notes)
    assert all(judge_line(one)[0] and b"\n" not in one for one in lines)


@pytest.mark.parametrize(
    ("text", "matters"),
    [
        (line({"role": "human", "content": "a"}, assistant("b")), False),
        (line(assistant("a"), user("b"), assistant("c")), True),
        (
            '{"messages": [], "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
            True,
        ),
        ('{"instruction": "a", "input": "", "output": "b"}', False),
        ('{"instruction": "a", "input": "nan", "output": "b"}', True),
        ('{"question": "a", "chosen": "b", "rejected": "c"}', True),
    ],
)
def test_a_note_says_whether_more_than_the_form_has_changed(text, matters):
    lines, notes = repair_line(text.encode())
    assert lines
    assert any(note.matters for note in notes) == matters


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"7", b"[" * 5_000, line(user("no answer")).encode()[:-3]])
def test_what_no_rule_mends_is_left(data):
    assert repair_line(data) == ([], [])


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.text(max_size=5), st.lists, max_leaves=6).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_whatever_comes_out_follows_the_rules(data):
    lines, _ = repair_line(data)
    assert all(not [fault for fault in judge_line(one)[1] if fault.level == "error"] for one in lines)
