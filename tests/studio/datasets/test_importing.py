"""Any file a person has becomes the lines of a dataset, or a sentence says why not; one click mends."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat_core.data.conversations import check
from nanochat_core.data.line import judge_line
from studio.datasets.fixes import FIXES, fixed, repair_line
from studio.datasets.importing import read_lines
from tests.support.samples import GOOD, assistant, conversation, line, user

HI = conversation(user("hi"), assistant("yo"))
SHAREGPT = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]}
ALPACA = {"instruction": "hi", "input": "", "output": "yo"}
PAIR = {"prompt": "hi", "completion": "yo"}


def read(tmp_path, content, name="file.jsonl", **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return read_lines(path, **options)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sharegpt.jsonl", json.dumps(SHAREGPT)),
        ("sharegpt.json", json.dumps([SHAREGPT])),
        ("alpaca.json", json.dumps([ALPACA], indent=2)),
        ("pair.jsonl", json.dumps(PAIR)),
        ("array.json", json.dumps([HI])),
        ("bare.json", json.dumps([HI["messages"]])),
        ("pretty.json", json.dumps(HI, indent=4)),
        ("a.csv", "prompt,completion\nhi,yo\n"),
        ("b.csv", "Instruction;Output\nhi;yo\n"),
        ("c.tsv", "question\tanswer\nhi\tyo\n"),
        ("d.csv", 'messages\n"' + json.dumps(HI["messages"]).replace('"', '""') + '"\n'),
        ("utf16.jsonl", json.dumps(PAIR).encode("utf-16")),
    ],
)
def test_formats_become_conversations_and_are_shown_first(tmp_path, name, content):
    imported = read(tmp_path, content, name)
    values = [json.loads(data) for _, data in imported.lines]
    assert [value["messages"] if isinstance(value, dict) else value for value in values] == [HI["messages"]]
    assert imported.is_converted
    assert imported.notes


def test_our_own_lines_stay_byte_for_byte_with_their_numbers(tmp_path):
    odd = '{"messages":[{"role":"user","content":"\\u00e9"},{"role":"assistant","content":"b"}],  "id":1}'
    imported = read(tmp_path, f"{odd}\n\n{{broken\r\n{GOOD}")
    assert imported.lines == [(1, odd.encode()), (3, b"{broken"), (4, GOOD.encode())]
    assert not imported.is_converted


def test_faulty_records_of_another_format_stay_as_they_are(tmp_path):
    broken = json.dumps({"conversations": [{"from": "weather", "value": "x"}]})
    imported = read(tmp_path, f"{json.dumps(SHAREGPT)}\n{broken}\n")
    assert imported.lines[1] == (2, broken.encode())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "colour,size\nred,5\n", "has the columns colour, size"),
        ("a.csv", "prompt,completion\n", "no rows"),
        ("a.jsonl", b"\x1f\x8bzip", "gzip"),
        ("a.json", b"\x89PNG\r\n\x1a\n", "PNG"),
        ("page.jsonl", "<html></html>", "HTML"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, name, content, said):
    with pytest.raises(ValueError, match=said):
        read(tmp_path, content, name)


def test_a_table_keeps_commas_quotes_and_line_breaks(tmp_path):
    imported = read(tmp_path, 'prompt,completion\n"a, ""b""\nc",d\n', "x.csv")
    assert json.loads(imported.lines[0][1])["messages"][0]["content"] == 'a, "b"\nc'


def test_rows_that_are_no_conversations_are_not_said_to_have_become_some(tmp_path):
    rows = "question,A,B,answer\nWhich?,Rome,Oslo,B\nWhich?,Rome,Oslo,Oslo\n"
    notes = read(tmp_path, rows, "a.csv").notes
    assert "1 row of the table became conversations." in notes
    assert "1 row stayed as in the table: the fault of each is shown with it." in notes


def test_json_lines_are_read_whatever_the_file_is_called(tmp_path):
    imported = read(tmp_path, GOOD + "\n", "data.csv")
    assert [data for _, data in imported.lines] == [GOOD.encode()]


def test_what_was_done_with_rows_of_a_table_is_said(tmp_path):
    rows = "instruction,input,question,output\nTranslate.,nan,Haus,house\nTranslate.,,Hof,yard\n"
    notes = " ".join(read(tmp_path, rows, "a.csv").notes)
    assert 'Took "question" into the question, below the "instruction": 2 times.' in notes
    assert "'nan'" in notes


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_surprise_it(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("upload") / "x.jsonl"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        assert all(b"\n" not in data for _, data in read_lines(path).lines)


MENDED = {
    "other_format": json.dumps(SHAREGPT),
    "unknown_role": line({"role": "human", "content": "a"}, {"role": "gpt", "content": "b"}),
    "wrong_order": line(assistant("x"), user("a"), assistant("b")),
    "ends_with_user": line(user("a"), assistant("b"), user("c")),
    "content_not_text": line(user(5), assistant("b")),
    "broken_character": line(user("\ud83d a"), assistant("b")),
    "several_objects": GOOD + GOOD,
    "comma_after_the_end": GOOD + ",",
    "json_array": json.dumps([HI, HI]),
    "unused_key": json.dumps({**HI, "tools": [{"name": "f"}]}),
    "preference_pair": json.dumps({"messages": [user("a")], "chosen": "b", "rejected": "c"}),
    "system_beside": json.dumps({**HI, "system_prompt": "be brief"}),
    "text_beside": json.dumps({**HI, "context": "in the yard"}),
    "no_role": json.dumps({"messages": [{"user": "a"}, {"assistant": "b"}]}),
    "not_a_message": json.dumps({"messages": ["a", "b"]}),
    "malformed_part": line(user("a"), assistant([{"text": "b"}])),
    "repeated_key": '{"id": 1, "id": 2, ' + GOOD[1:],
    "lonely_tool_part": line(user("a"), assistant([{"type": "python", "text": "2*3"}])),
}


@pytest.mark.parametrize("kind", MENDED)
def test_one_click_mends(kind):
    data = MENDED[kind].encode("utf-8", "surrogatepass") if kind != "broken_character" else MENDED[kind].encode()
    assert kind in {fault.kind for fault in judge_line(data)[1]}
    lines = fixed(data, kind)
    assert lines
    for mended in lines:
        assert kind not in {fault.kind for fault in judge_line(mended)[1]}


def test_every_fix_is_tried_and_removal_removes():
    assert set(FIXES) - set(MENDED) == {
        *("repeated_conversation", "nothing_to_learn", "old_line_ends", "negative_example")
    }
    assert fixed(GOOD.encode(), "repeated_conversation") == []


def test_what_no_rule_can_mend_is_left():
    assert fixed(b"{broken", "not_json") is None
    assert (
        fixed(line(user("a"), assistant([{"type": "python", "text": "import os"}])).encode(), "lonely_tool_part")
        is None
    )
    assert repair_line(b"\xff\xfe") == ([], [])
    assert repair_line(b"[" * 500 + b"]" * 500) == ([], [])


def test_a_repaired_file_passes_check(tmp_path):
    out = tmp_path / "out.jsonl"
    lines = [mended for kind, text in MENDED.items() for mended in fixed(text.encode(), kind)]
    out.write_bytes(b"\n".join(lines))
    assert check(out).verdict != "reject"
