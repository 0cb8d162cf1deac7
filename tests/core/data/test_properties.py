"""Whatever the bytes: check gives a verdict, good conversations come back as they were, what fix writes is accepted."""

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanochat_core.data import reader
from nanochat_core.data.conversations import check, load_conversations, save_conversations
from nanochat_core.data.line import judge_line, to_line
from nanochat_core.data.reader import Layout, Piece
from nanochat_core.data.repair.file import fix_file
from nanochat_core.data.rules import judge, ordinary_contents
from tests.support.drawn_conversations import PARTS, SAID, TEXT, conversations
from tests.support.samples import GOOD, assistant, conversation, line, user
from tests.support.tiny import tiny_tokenizer

TEXT_KINDS = {"template_mark", "misread_letters", "media"}
"""Warnings of what a text may hold: hypothesis knows the marks from our own code."""

# Nearly conversations: the roles, keys and values that people get wrong, and JSON of any kind.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ROLES = st.sampled_from(["user", "assistant", "system", "User", "human", "gpt", "tool", " bot", ""])
CONTENTS = st.text(max_size=6) | PARTS | JSON
KEYS = {"role": ROLES | JSON, "content": CONTENTS, "from": ROLES, "value": CONTENTS, "name": JSON, "weight": JSON}
MESSAGES = st.fixed_dictionaries({}, optional=KEYS) | st.builds(lambda r, c: {"role": r, "content": c}, ROLES, TEXT)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["messages", "conversations"], st.lists(MESSAGES | JSON, max_size=4) | JSON),
        **dict.fromkeys(["instruction", "input", "output", "prompt", "completion", "system", "history"], CONTENTS),
        **dict.fromkeys(
            ["question", "text", "answers", "choices", "chosen", "rejected", "winner", "response"], CONTENTS
        ),
        "id": JSON,
    },
)
VALUES = (
    RECORDS | st.lists(MESSAGES, max_size=4) | JSON | conversations() | st.lists(RECORDS | conversations(), max_size=3)
)


@st.composite
def nearly_data(draw):
    """The bytes of a file of such values, written in one of many wrong ways."""
    indent = draw(st.sampled_from([None, None, 1]))
    lines = [
        json.dumps(value, indent=indent, ensure_ascii=draw(st.booleans()))
        for value in draw(st.lists(VALUES, max_size=4))
    ]
    text = draw(st.sampled_from(["\n", "\n", "\r\n", "\r", ",\n", "", " ", "\n\n", "\n\ufeff"])).join(lines)
    text = draw(st.sampled_from(["{}", "{}\n", "[{}]", "[\n{}\n]", "\ufeff{}", "[{}", "x{}"])).replace("{}", text)
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-16", "utf-16-le"])), "surrogatepass")
    if data and draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(max_size=2)) + data[at + draw(st.integers(0, 3)) :]
    return data


@contextmanager
def file_of(data: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.jsonl"
        path.write_bytes(data)
        yield path


def assert_check_and_fix_hold(data: bytes) -> None:
    with file_of(data) as path:
        report = check(path, tiny_tokenizer(), 64)
        levels = {problem.level for problem in report.problems}
        assert report.verdict == ("reject" if "error" in levels else "accept_with_warning" if levels else "accept")
        assert sum(report.counts.values()) == len(report.problems)
        assert all(1 <= problem.line <= data.count(b"\n") + 1 for problem in report.problems)
        assert report.summary().encode("utf-8")  # can be printed: no half characters
        json.dumps(report.to_dict(), ensure_ascii=False).encode("utf-8")
        if report.verdict != "reject":
            assert report.conversations == len(load_conversations(path, tiny_tokenizer(), 64)) > 0
        out = path.with_name("fixed.jsonl")
        try:
            fixed = fix_file(path, out)
        except ValueError:
            fixed = None
        if fixed is None:
            assert not out.exists()
            assert report.verdict == "reject"
            return
        again = check(out, tiny_tokenizer(), 64)
        assert again.verdict != "reject", again.summary()
        assert again.conversations == fixed.written >= report.conversations
        assert fixed.summary().encode("utf-8")
        if report.verdict != "reject":
            assert fixed.left_out == 0
            assert load_conversations(out) == load_conversations(path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
@example(b"\xff\xfe{")
@example(b"\xfe\xff\x00")
@example(b"PK\x03\x04")
@example(b'{"a": 1e999, "messages": []}')
@example(b"\x1f\x8b")
def test_any_bytes_get_a_verdict(data):
    assert_check_and_fix_hold(data)


@settings(max_examples=200, deadline=None)
@given(nearly_data())
def test_nearly_right_files_get_a_verdict_and_their_repair_is_accepted(data):
    assert_check_and_fix_hold(data)


@settings(max_examples=60, deadline=None)
@given(st.lists(conversations(), min_size=1, max_size=4))
def test_conversations_come_back_as_they_were_saved(saved):
    with file_of(b"") as path:
        save_conversations(path, saved)
        assert load_conversations(path, tiny_tokenizer()) == saved
        assert check(path, tiny_tokenizer()).conversations == len(saved)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_the_quick_way_agrees_with_the_rules(value):
    messages = value.get("messages") if isinstance(value, dict) else value
    if ordinary_contents(messages) is not None:
        judged, faults = judge(value)
        assert judged == [{"role": message["role"], "content": message["content"]} for message in messages]
        assert {fault.kind for fault in faults} <= {"unused_key", *TEXT_KINDS}


@given(SAID, SAID)
def test_one_line_gives_the_same_conversation_by_either_way(question, answer):
    quick = judge_line(to_line(conversation(user(question), assistant(answer))))
    slow = judge_line(to_line({"tags": [], **conversation(user(question), assistant(answer))}))
    assert quick == slow
    assert quick[0] == [[user(question), assistant(answer)]]
    assert {fault.kind for fault in quick[1]} <= TEXT_KINDS


@settings(max_examples=80, deadline=None)
@given(
    st.lists(JSON.filter(lambda value: isinstance(value, dict | list)), max_size=5), st.integers(1, 9), st.booleans()
)
def test_arrays_are_cut_alike_whatever_the_chunks(values, chunk, is_array):
    values = json.loads(json.dumps(values).replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0"))
    text = json.dumps(values, indent=1) if is_array else "\n".join(json.dumps(value, indent=1) for value in values)
    with file_of(text.encode()) as path, pytest.MonkeyPatch.context() as patch, open(path, "rb") as file:
        patch.setattr(reader, "_CHUNK_BYTES", chunk)
        found = list(reader.pieces(file, Layout(is_spread=True, is_array=is_array)))
    assert [json.loads(piece.data) for piece in found] == values
    for piece in found:
        assert text.split("\n")[piece.line - 1].encode()[piece.column :].startswith(piece.data.split(b"\n")[0])


@given(st.binary(max_size=60), st.integers(1, 9))
def test_nothing_but_blanks_and_commas_is_lost_in_cutting(data, chunk):
    with file_of(data) as path, pytest.MonkeyPatch.context() as patch, open(path, "rb") as file:
        patch.setattr(reader, "_CHUNK_BYTES", chunk)
        kept = b"".join(piece.data for piece in reader.pieces(file, Layout(is_spread=True)))
    skipped = b" \t\r\n,"
    expected = data.removeprefix(reader.BOM)
    assert kept.translate(None, skipped) == expected.translate(None, skipped)


def test_the_pieces_of_lines_have_their_numbers():
    with file_of(f"{GOOD}\n\n{line(user('a'))}".encode()) as path, open(path, "rb") as file:
        found = list(reader.pieces(file, reader.layout(reader.head_of(file))))
    assert found == [Piece(1, 0, GOOD.encode() + b"\n"), Piece(2, 0, b"\n"), Piece(3, 0, line(user("a")).encode())]
