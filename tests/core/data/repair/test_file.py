"""fix_file: what it repairs and says, what it leaves out and says, what it refuses; its output always passes check."""

import json

import pytest

from nanochat_core.data.conversations import check, load_conversations
from nanochat_core.data.repair.file import fix_file
from nanochat_core.data.report import REPAIR
from tests.support.samples import GOOD, assistant, conversation, line, system, user

TWO = [conversation(user("one"), assistant("1")), conversation(user("two"), assistant("2"))]
LINES = "".join(json.dumps(item) + "\n" for item in TWO)


@pytest.fixture
def fix(tmp_path):
    """Repair a text (or bytes) and return (the report, the conversations of the repaired copy)."""

    def run(content: str | bytes):
        path, out = tmp_path / "data.jsonl", tmp_path / "fixed.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        report = fix_file(path, out)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode("utf-8"))
        assert check(out, max_seq_len=10**9).verdict in ("accept", "accept_with_warning")
        conversations = load_conversations(out, max_seq_len=10**9)
        assert report.written == len(conversations)
        return report, conversations

    return run


SAME = {
    "array on one line": json.dumps(TWO),
    "array over lines": json.dumps(TWO, indent=2),
    "array with a conversation a line": "[\n" + LINES.strip().replace("\n", ",\n") + "\n]\n",
    "array with the brackets on the lines": "[" + LINES.strip().replace("\n", ",\n") + "]",
    "array with a byte order mark": "\ufeff" + json.dumps(TWO, indent=1),
    "array of bare lists": json.dumps([item["messages"] for item in TWO]),
    "objects over lines": "\n".join(json.dumps(item, indent=4) for item in TWO),
    "objects over lines, windows": "\r\n".join(json.dumps(item, indent=4) for item in TWO).replace("\n", "\r\n"),
    "bare lists over lines": "\n".join(json.dumps(item["messages"], indent=4) for item in TWO),
    "objects on one line": LINES.replace("\n", ""),
    "objects on one line with commas": LINES.replace("\n", ", "),
    "commas at the line ends": LINES.replace("\n", ",\n"),
    "an array in a line": json.dumps(TWO[:1]) + "\n" + json.dumps(TWO[1]),
    "byte order mark": "\ufeff" + LINES,
    "windows line ends": LINES.replace("\n", "\r\n"),
    "old line ends": LINES.replace("\n", "\r"),
    "utf-16": LINES.encode("utf-16"),
    "utf-16 without a mark": LINES.encode("utf-16-le"),
    "utf-16 big-endian": ("\ufeff" + LINES).encode("utf-16-be"),
    "utf-32": LINES.encode("utf-32"),
    "utf-16 array over lines": json.dumps(TWO, indent=1).encode("utf-16"),
    "empty lines": LINES.replace("\n", "\n\n"),
    "capital roles": LINES.replace('"user"', '"User"').replace('"assistant"', '" ASSISTANT"'),
    "sharegpt's roles": LINES.replace('"user"', '"human"').replace('"assistant"', '"gpt"'),
    "sharegpt's keys": LINES.replace('"role"', '"from"').replace('"content"', '"value"'),
    "sharegpt": LINES.replace('"role"', '"from"')
    .replace('"content"', '"value"')
    .replace('"messages"', '"conversations"'),
    "alpaca": "\n".join(
        json.dumps({"instruction": item["messages"][0]["content"], "output": item["messages"][1]["content"]})
        for item in TWO
    ),
    "prompts and completions": "\n".join(
        json.dumps({"prompt": item["messages"][0]["content"], "completion": item["messages"][1]["content"]})
        for item in TWO
    ),
    "numbers for texts": LINES.replace('"1"', "1").replace('"2"', "2"),
    "a user's text parts": LINES.replace('"one"', '[{"type": "text", "text": "one"}]'),
    "half an emoji": LINES.replace("one", "on\\ud83de"),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_conversations_come_out_of_every_wrong_form(fix, name):
    report, conversations = fix(SAME[name])
    assert conversations == TWO
    assert report.left_out == 0
    assert report.done
    assert "LEFT OUT" not in report.summary()
    assert "DROPPED" not in report.summary()


def test_a_good_file_is_copied_byte_for_byte(fix, tmp_path):
    text = '{"id": 1,  "messages": [' + json.dumps(user("a")) + "," + json.dumps(assistant("b\u2028")) + "]}\n" + LINES
    report, _ = fix(text)
    assert (tmp_path / "fixed.jsonl").read_text(encoding="utf-8") == text
    assert report.done == ()
    assert "Nothing had to be repaired." in report.summary()


def test_the_persons_own_keys_stay(fix, tmp_path):
    record = {
        "id": "x7",
        "tags": ["a"],
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    }
    fix(json.dumps(record))
    written = json.loads((tmp_path / "fixed.jsonl").read_text())
    assert written == {"id": "x7", "tags": ["a"], **conversation(user("q"), assistant("a"))}


def test_what_is_dropped_is_said_with_its_lines(fix):
    report, conversations = fix(
        "\n".join(
            [
                line(user("a"), assistant("b"), user("c")),
                line(assistant("hello"), user("a"), assistant("b")),
                line(system("s"), assistant("hello"), user("a"), assistant("b"), user("c")),
                '{"messages": [], ' + GOOD[1:] + ",",
            ]
        )
    )
    assert conversations == [
        conversation(user("a"), assistant("b")),
        conversation(user("a"), assistant("b")),
        conversation(system("s"), user("a"), assistant("b")),
        conversation(user("hi"), assistant("yo")),
    ]
    done = " ".join(report.done)
    assert "LOOK whether user and assistant are swapped: the assistant spoke first, and the user last: 1 time" in done
    assert "DROPPED a last message of the user, which has no answer: 2 times (lines 1, 3)." in done
    assert "DROPPED a first message of the assistant, since the user must speak first: 2 times (lines 2, 3)." in done


def test_swapped_roles_are_asked_about(fix, tmp_path):
    report, _ = fix("\n".join(line(assistant("q?"), user("a"), assistant("r?"), user(f"{n}")) for n in range(9)))
    assert "LOOK whether user and assistant are swapped" in report.summary()
    (said,) = [one for one in check(tmp_path / "data.jsonl").problems if one.kind == "swapped_roles"]
    assert "So in 9 rows" in said.message
    assert REPAIR not in said.fix


def test_equal_keys_on_a_line_that_is_rewritten_are_said(fix):
    report, conversations = fix('{"messages": [], ' + GOOD[1:] + ",")
    assert conversations == [json.loads(GOOD)]
    assert "Removed a comma after the end of an object: 1 time (line 1)." in report.done
    assert any(sentence.startswith("DROPPED the first of two equal keys") for sentence in report.done)


LEFT_OUT = {
    "not json": "hello",
    "cut off": GOOD[:-3],
    "a bad example": line(user("a"), assistant("b"))[:-1] + ', "label": false}',
    "a tool call": line(user("a"), {"tool_calls": [1], **assistant(None)}, {"role": "tool"}, assistant("b")),
    "an empty answer": line(user("a"), assistant("")),
    "only a question": line(user("a")),
    "only a greeting": line(assistant("a"), user("b")),
    "late system message": line(user("a"), assistant("b"), system("c"), user("d"), assistant("e")),
    "null content": line(user("a"), assistant(None)),
    "unknown role": line(user("a"), {"role": "cook", "content": "b"}),
    "a picture": line(user([{"type": "image_url"}]), assistant("b")),
    "nan": '{"messages": [], "x": NaN}',
    "infinite number": '{"x": 1e999, "prompt": "a", "completion": "b"}',
    "bomb": "[" * 100_000,
    "deep": '{"x": ' + "[" * 150 + "]" * 150 + ', "prompt": "a", "completion": "b"}',
    "brackets": "{}," * 600_000,
    "no text after all": '{"instruction": 1, "output": "b"}',
    "a long run": line(user("a"), assistant("b" * 600_000)),
    "text between objects": GOOD + " and " + GOOD,
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_no_rule_repairs_is_left_out_and_said(fix, name):
    report, conversations = fix(LINES + LEFT_OUT[name] + "\n" + GOOD)
    assert conversations == [*TWO, json.loads(GOOD)]
    assert report.left_out == 1
    assert {problem.line for problem in report.problems} == {3}
    assert "LEFT OUT, because no rule repairs them: 1 line" in report.summary()
    assert "Line 3: " in report.summary()


def test_nothing_usable_writes_nothing(tmp_path):
    path, out = tmp_path / "data.jsonl", tmp_path / "fixed.jsonl"
    path.write_text("hello\n" + line(user("a")))
    with pytest.raises(ValueError, match=r"nothing was written\. Line 1"):
        fix_file(path, out)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data.jsonl"]


def test_windows_1252_becomes_utf_8_and_an_example_is_shown(fix):
    text = line(user("Der K\xe4se"), assistant("kostet 5 \u20ac, \u201cbitte\u201d"))
    report, conversations = fix(json.dumps(json.loads(text), ensure_ascii=False).encode("cp1252"))
    assert conversations == [json.loads(text)]
    assert "from Windows-1252" in report.done[0]
    assert "K\xe4se" in report.done[0]


@pytest.mark.parametrize(
    "broken",
    [
        "Привет, мир".encode("cp1251"),
        "za\u017c\xf3\u0142\u0107 g\u0119\u015bl\u0105".encode("cp1250"),
        "\u4f60\u597d\u4e16\u754c".encode("gbk"),
        "caf\xe9 \u20ac".encode()[:-1],
        b"caf\xe9 \x81",
    ],
)
def test_other_encodings_are_not_guessed(fix, broken):
    report, conversations = fix(LINES.encode() + line(user("X"), assistant("b")).encode().replace(b"X", broken))
    assert conversations == TWO
    assert report.left_out == 1
    assert report.problems[0].kind == "not_utf8"


def test_a_damaged_utf_8_file_is_not_taken_for_windows_1252(fix):
    """One line of good UTF-8 says what the file is: then a broken byte elsewhere is damage, not another encoding."""
    good = json.dumps(conversation(user("caf\xe9"), assistant("b")), ensure_ascii=False).encode()
    report, conversations = fix(good + b"\n" + good.replace("\xe9".encode(), b"\xe9"))
    assert conversations == [json.loads(good)]
    assert report.left_out == 1


def test_damaged_utf_16_is_refused(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(LINES.encode("utf-16")[:-1])
    with pytest.raises(ValueError, match="damaged: it is not whole UTF-16"):
        fix_file(path, tmp_path / "fixed.jsonl")


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(LINES)
    (tmp_path / "there.jsonl").write_text("mine")
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is the file itself"):
        fix_file(path, path)
    for name in ("there.jsonl", "dangling.jsonl"):
        with pytest.raises(ValueError, match="exists already"):
            fix_file(path, tmp_path / name)
    assert (tmp_path / "there.jsonl").read_text() == "mine"
    assert path.read_text() == LINES


def test_what_cannot_be_read_or_written_is_one_sentence(tmp_path):
    (tmp_path / "data.jsonl").write_text(LINES)
    (tmp_path / "packed.jsonl").write_bytes(b"\x1f\x8b\x08rest")
    out = tmp_path / "fixed.jsonl"
    with pytest.raises(ValueError, match="There is no file"):
        fix_file(tmp_path / "missing.jsonl", out)
    with pytest.raises(ValueError, match=r"gzip-compressed.*Unpack it"):
        fix_file(tmp_path / "packed.jsonl", out)
    with pytest.raises(ValueError, match="There is no folder"):
        fix_file(tmp_path / "data.jsonl", tmp_path / "no" / "fixed.jsonl")


def test_many_changes_are_counted_and_only_the_first_lines_are_named(fix):
    report, _ = fix(LINES.replace("\n", ",\n") * 50)
    assert report.done[0].endswith(
        "100 times (lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 and 80 more)."
    )


def test_text_in_an_array_that_belongs_to_no_conversation_is_not_lost_silently(fix):
    report, conversations = fix("[" + LINES.strip().replace("\n", ", stray text, ") + "]")
    assert conversations == TWO
    assert report.left_out == 1
    assert "stray text" in report.problems[0].message


NOTHING_TO_REPAIR = {
    "a chat in utf-16": ("Ann: Are you open?\nBob: Yes.\n".encode("utf-16"), "chat"),
    "a table of unknown columns in utf-16": ("ticket,ours\n1,Yes.\n".encode("utf-16"), "the columns ticket, ours"),
    "damaged utf-16": (LINES.encode("utf-16")[:-1], "damaged"),
    "a table in another encoding": ("question;answer\nКак дела?;Хорошо\n".encode("cp1251"), "not UTF-8"),
    "a table without rows": (b"prompt,completion\n", "no conversation"),
    "a table without answers": (b"prompt,completion\nWhen?,\nWhere?,\n", "Line 3"),
    "numpy's lists": (
        b"id,conversations\n1,\"[{'from': 'human', 'value': 'a'}\n {'from': 'gpt', 'value': 'b'}]\"\n",
        "to_json",
    ),
    "a chat's export": (json.dumps({"messages": [{"from": "Ann", "text": "Open?"}]}, indent=1).encode(), "'Ann'"),
    "an object of conversations": (json.dumps({"a": TWO[0], "b": TWO[1]}, indent=1).encode(), "its keys are 'a', 'b'"),
    "an array on a line, of something else": (b'[{"prompt": "q", "completion": ["a", "b"]}]\n{}', "several answers"),
    "choices that are none": (b'{"question": "q", "choices": -1, "answer": ["a", ["b"]]}\n', "several answers"),
    "lines of something else, of Windows": (b"\xef\xbb\xbf{}\r\n{}\r\n", "it is empty"),
    "an array of something else": (b'[{"a": 1},\n{"b": 2}]', "its keys are 'b'"),
}


@pytest.mark.parametrize("name", NOTHING_TO_REPAIR)
def test_nothing_is_promised_of_a_file_of_which_nothing_can_be_repaired_and_why_is_said(tmp_path, name):
    data, said = NOTHING_TO_REPAIR[name]
    path = tmp_path / "data.any"
    path.write_bytes(data)
    report = check(path)
    assert said in report.summary()
    assert not any(REPAIR in problem.fix for problem in report.problems)
    with pytest.raises(ValueError, match=r"cannot|nothing was written|has the columns|is not|is damaged"):
        fix_file(path, tmp_path / "fixed.jsonl")


@pytest.mark.parametrize("rows", ["Where?,\nWhen?,At seven.\n", 'Where?,"a" b\nWhen?,At seven.\n'])
def test_what_is_promised_of_a_table_is_done_with_its_good_rows(fix, rows, tmp_path):
    _, conversations = fix(f"prompt,completion\n{rows}")
    assert conversations == [conversation(user("When?"), assistant("At seven."))]
    (problem,) = check(tmp_path / "data.jsonl").problems
    assert REPAIR in problem.fix
