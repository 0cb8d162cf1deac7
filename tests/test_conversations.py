"""check, load_conversations, save_conversations: every fault of a data file with its line, and what good files give."""

import json

import pytest

from nanochat_core import conversations as module
from nanochat_core import data_report
from nanochat_core.conversations import check, load_conversations, save_conversations
from tests.samples import GOOD, assistant, conversation, line, system, user

OTHER = line(user("another question"), assistant("another answer"))


@pytest.fixture
def data(tmp_path):
    """Write text or bytes to a file and return its path."""

    def write(content: str | bytes, name: str = "data.jsonl"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def found(report):
    return [(problem.line, problem.level, problem.kind) for problem in report.problems]


GOOD_FILES = {
    "one line": GOOD + "\n",
    "no line break at the end": GOOD,
    "empty lines at the end": GOOD + "\n\n \n",
    "a bare list": json.dumps([user("hi"), assistant("yo")]),
    "a system message": line(system("be kind"), user("hi"), assistant("yo")),
    "blanks around": f"  {GOOD} \t",
    "own keys": json.dumps({"id": 7, "source": {"a": [1, 2]}, **conversation(user("hi"), assistant("yo"))}),
    "own keys in messages": line({"name": "Nora", **user("hi")}, assistant("yo")),
    "the word role as a text": line(user("role"), assistant("content")),
    "line separators inside a text": json.dumps(
        conversation(user("one\u2028two\u2029three\x85four\x0bfive"), assistant("yo")), ensure_ascii=False
    ),
    "special tokens as text": line(user("<|bos|><|user_start|>"), assistant("<|assistant_end|>")),
    "a whole emoji in escapes": line(user("\U0001f600"), assistant("a")),
    "keys in escapes": '[{"r\\u006fle": "user", "content": "a"}, {"role": "assistant", "content": "b"}]',
    "tool parts": line(
        user("1+1?"),
        assistant(
            [
                {"type": "python", "text": "1+1"},
                {"type": "python_output", "text": "2"},
                {"type": "text", "text": "It is 2."},
            ]
        ),
    ),
}


@pytest.mark.parametrize("name", GOOD_FILES)
def test_good_files_are_accepted(data, name):
    report = check(data(GOOD_FILES[name]))
    assert (report.verdict, report.conversations, report.problems) == ("accept", 1, ())


PART = {"type": "text", "text": "fine"}
WARNINGS = {
    "byte order mark": ("\ufeff" + GOOD, 1, "bom"),
    "byte order mark where files were joined": (GOOD + "\n\ufeff" + OTHER, 2, "bom"),
    "windows line ends": (GOOD + "\n" + OTHER + "\r\n", 2, "crlf"),
    "an empty line inside": (GOOD + "\n\n" + OTHER, 2, "empty_line"),
    "empty answer": (line(user("hi"), assistant("  ")), 1, "empty_text"),
    "empty question": (line(user(""), assistant("yo")), 1, "empty_text"),
    "empty parts": (line(user("hi"), assistant([{"type": "text", "text": ""}])), 1, "empty_text"),
    "repeated key": (
        '[{"role": "user", "role": "user", "content": "a"}, ' + line(assistant("b"))[14:-1],
        1,
        "repeated_key",
    ),
    "repeated key of the person's own": ('{"id": 1, "id": 2, ' + GOOD[1:], 1, "repeated_key"),
    "repeated key, once in escapes": (
        '[{"role": "user", "r\\u006fle": "user", "content": "a"}, {"role": "assistant", "content": "b"}]',
        1,
        "repeated_key",
    ),
    "the same again": (GOOD + "\n" + OTHER + "\n" + GOOD.replace(", ", ","), 3, "repeated_conversation"),
    "python without output": (line(user("a"), assistant([{"type": "python", "text": "1"}])), 1, "lonely_tool_part"),
    "output without python": (
        line(user("a"), assistant([{"type": "python_output", "text": "1"}])),
        1,
        "lonely_tool_part",
    ),
    "weights": (line({"weight": 0, **user("hi")}, assistant("yo")), 1, "unused_key"),
    "system beside the messages": ('{"system": "x", ' + GOOD[1:], 1, "unused_key"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_warnings_leave_the_file_usable(data, name):
    text, number, kind = WARNINGS[name]
    path = data(text)
    report = check(path)
    assert found(report) == [(number, "warning", kind)]
    assert report.verdict == "accept_with_warning"
    assert len(load_conversations(path)) == report.conversations > 0


FAULTS = {
    "not json": ("hello there", "not_json", "begins with 'hello there'"),
    "a missing comma": (GOOD.replace("}, {", "} {", 1), "not_json", "comma is missing before column 49"),
    "a quote inside a text": (GOOD.replace("hi", 'so "hi" you'), "not_json", "quote inside the text"),
    "single quotes": (str(conversation(user("a"), assistant("b"))), "not_json", "single quote at column 2"),
    "curly quotes": (GOOD.replace('"', "\u201c"), "not_json", "curly quote"),
    "a comma too many": (GOOD.replace("}]}", "},]}"), "not_json", "comma too many"),
    "cut off": (GOOD[:-2], "never_closed", "never closed"),
    "cut off in a text": (GOOD[:-6], "not_json", "not closed on this line"),
    "a raw tab": (GOOD.replace("hi", "a\tb"), "not_json", "raw tab inside the quotes"),
    "a zero byte": (GOOD.replace("hi", "a\0b"), "not_json", "raw zero byte"),
    "a backslash": (GOOD.replace("hi", "a\\d"), "not_json", "backslash"),
    "python's words": ('{"messages": None}', "not_json", "None at column 14"),
    "nan": ('{"messages": [], "x": NaN}', "not_json", "NaN is not allowed"),
    "infinity": ('{"messages": [], "x": -Infinity}', "not_json", "-Infinity is not allowed"),
    "a comment": ("// data", "not_json", "comment"),
    "a number too long": ('{"x": ' + "7" * 5000 + "}", "not_json", "5,000 digits"),
    "something after the end": (GOOD + " x", "not_json", "after the end of the object at column"),
    "a bracket too many": (GOOD + "}", "not_json", "closing } too many"),
    "several objects": (GOOD + OTHER, "several_objects", "2 objects on this line"),
    "a comma after the end": (GOOD + ",", "comma_after_the_end", "comma after the end"),
    "old line ends": (GOOD + "\r" + OTHER, "old_line_ends", "carriage return"),
    "nesting bomb of objects": ('{"a":' * 100_000, "nested_too_deeply", "nested far too deeply"),
    "deep value": ('{"x": ' + "[" * 150 + "]" * 150 + ", " + GOOD[1:], "nested_too_deeply", "nested far too deeply"),
    "a number": ("5", "not_an_object", "is a number"),
    "a text": ('"hello"', "not_an_object", "is a text"),
    "null": ("null", "not_an_object", "is null"),
    "an empty list": ("[]", "no_messages", "list of messages is empty"),
    "an empty object": ("{}", "no_messages", 'no "messages"; it is empty'),
    "no messages": ('{"data": 1}', "no_messages", "its keys are 'data'"),
    "messages not a list": ('{"messages": "hi"}', "no_messages", "is a text, not a list"),
    "empty messages": ('{"messages": []}', "no_messages", "is empty"),
    "a single message": (json.dumps(user("hi")), "no_messages", "single message"),
    "sharegpt": ('{"conversations": [{"from": "human", "value": "a"}]}', "other_format", "ShareGPT"),
    "alpaca": ('{"instruction": "a", "input": "", "output": "b"}', "other_format", "Alpaca"),
    "prompt and completion": ('{"prompt": "a", "completion": "b"}', "other_format", "prompt/completion"),
    "sharegpt's keys": (
        json.dumps([{"from": "user", "value": "a"}, {"from": "gpt", "value": "b"}]),
        "other_format",
        '"from" stands for "role"',
    ),
    "sharegpt's roles": (line({"role": "human", "content": "a"}, assistant("b")), "unknown_role", "ShareGPT"),
    "a capital role": (line({"role": "User", "content": "a"}, assistant("b")), "unknown_role", "Message 1: 'User'"),
    "an unknown role": (line(user("a"), {"role": "cook", "content": "b"}), "unknown_role", "Message 2: 'cook'"),
    "no role": (line({"content": "a"}, assistant("b")), "no_role", "Message 1"),
    "a role that is a number": (line({"role": 1, "content": "a"}, assistant("b")), "no_role", "not text"),
    "a message that is a text": (line("hi", assistant("b")), "not_a_message", "Message 1"),
    "two users": (line(user("a"), user("b"), assistant("c")), "wrong_order", "Messages 1 and 2 are both from the user"),
    "two answers": (line(user("a"), assistant("b"), assistant("c")), "wrong_order", "Messages 2 and 3 are both"),
    "assistant first": (
        line(assistant("a"), user("b"), assistant("c")),
        "wrong_order",
        "Message 1 is from the assistant",
    ),
    "assistant after system": (line(system("s"), assistant("c")), "wrong_order", "Message 2 is from the assistant"),
    "late system": (
        line(user("a"), assistant("b"), system("c"), user("d"), assistant("e")),
        "wrong_order",
        "Message 3",
    ),
    "two system messages": (line(system("a"), system("b"), user("c"), assistant("d")), "wrong_order", "Message 2"),
    "only a system message": (line(system("a")), "wrong_order", "only a system message"),
    "ends with the user": (line(user("a"), assistant("b"), user("c")), "ends_with_user", "last message (3)"),
    "only a question": (line(user("a")), "ends_with_user", "last message (1)"),
    "no content": (line({"role": "user"}, assistant("b")), "content_not_text", 'Message 1: there is no "content"'),
    "null content": (line(user("a"), assistant(None)), "content_not_text", "Message 2: the content is null"),
    "content a number": (line(user(5), assistant("b")), "content_not_text", "is a number"),
    "content true": (line(user(True), assistant("b")), "content_not_text", "is true or false"),
    "content an object": (line(user({"text": "a"}), assistant("b")), "content_not_text", "is an object"),
    "a user's parts": (line(user([PART]), assistant("b")), "content_not_text", "only the assistant's may be in parts"),
    "no parts": (line(user("a"), assistant([])), "malformed_part", "empty list"),
    "a part that is a text": (line(user("a"), assistant([PART, "b"])), "malformed_part", "part 2 is a text"),
    "a picture part": (line(user("a"), assistant([{"type": "image"}])), "malformed_part", "type 'image'"),
    "a part without a type": (line(user("a"), assistant([{"text": "b"}])), "malformed_part", 'no "type"'),
    "a part without text": (
        line(user("a"), assistant([{"type": "text", "text": None}])),
        "malformed_part",
        'no "text"',
    ),
    "half an emoji": (line(user("a"), assistant("\ud83d")), "broken_character", "Message 2: the text holds half"),
    "half an emoji in a part": (
        line(user("a"), assistant([{"type": "text", "text": "b\udc00"}])),
        "broken_character",
        "Message 2",
    ),
    "not utf-8": (GOOD.replace("hi", "caf\xe9").encode("latin-1"), "not_utf8", "Byte 47 of the line (0xE9)"),
    "half a character in utf-8": (GOOD.encode() + b"\xed\xa0\x80", "not_utf8", "0xED"),
    "an array in a file of lines": (f"[{OTHER}]", "json_array", "one JSON array"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_faulty_line_rejects_the_file_and_is_named(data, name):
    text, kind, words = FAULTS[name]
    text = text if isinstance(text, bytes) else text.encode("utf-8")
    path = data(GOOD.replace("hi", "first").encode() + b"\n" + text + b"\n" + GOOD.replace("hi", "last").encode())
    report = check(path)
    errors = [problem for problem in report.problems if problem.level == "error"]
    assert {problem.kind for problem in errors} == {kind}
    assert {problem.line for problem in errors} == {2}
    assert any(words in problem.message for problem in errors), errors
    assert all(problem.fix.endswith(".") and problem.message.endswith(".") for problem in errors)
    assert report.verdict == "reject"
    assert report.conversations >= 2
    with pytest.raises(ValueError, match="Line 2"):
        load_conversations(path)


def test_all_faults_are_listed_at_once_with_their_lines(data):
    names = [name for name in FAULTS if isinstance(FAULTS[name][0], str)]
    report = check(data("".join(f"{FAULTS[name][0]}\n" for name in names)))
    errors = {(problem.line, problem.kind) for problem in report.problems if problem.level == "error"}
    assert errors == {(number, FAULTS[name][1]) for number, name in enumerate(names, 1)}


def test_several_faults_of_one_conversation_are_all_said(data):
    report = check(data(line(system(1), assistant(None), {"role": "User", "content": "a"}, user("b"))))
    assert sorted({problem.kind for problem in report.problems}) == [
        "content_not_text",
        "ends_with_user",
        "unknown_role",
        "wrong_order",
    ]


def test_faults_inside_arrays_and_spread_objects_have_their_true_lines(data):
    items = [conversation(user(str(n)), assistant("b")) for n in range(3)]
    items[1]["messages"].append(user("no answer"))
    text = json.dumps(items, indent=1)
    report = check(data(text))
    start_of_second = text[: text.index('"1"')].count("\n") - 3
    assert found(report) == [(1, "error", "json_array"), (start_of_second, "error", "ends_with_user")]
    assert report.conversations == 2


def test_a_parse_error_in_a_spread_object_names_the_line_where_it_is(data):
    text = json.dumps(conversation(user("a"), assistant("b")), indent=1).replace('"content": "b"', '"content" "b"')
    report = check(data(text))
    wrong = text[: text.index('"content" "b"')].count("\n") + 1
    assert found(report) == [(1, "error", "spread_over_lines"), (wrong, "error", "not_json")]


@pytest.mark.parametrize("content", ["", "\n\n", "[\n]", " "])
def test_a_file_without_conversations_is_rejected(data, content):
    report = check(data(content))
    assert report.verdict == "reject"
    assert report.conversations == 0


def test_loaded_conversations_hold_role_and_content_only(data):
    path = data(
        '{"id": 3, "messages": [{"role": "user", "content": "a", "name": "x"}, {"role": "assistant", "content": '
        '[{"type": "text", "text": "b", "y": 1}]}]}\n' + json.dumps([user("c"), assistant("d")])
    )
    assert load_conversations(path) == [
        conversation(user("a"), assistant([{"type": "text", "text": "b"}])),
        conversation(user("c"), assistant("d")),
    ]


def test_the_report_as_json_and_as_text(data):
    report = check(data(GOOD + "\n" + "x\n" * 30 + line(user("a"), assistant("")) + "\n"))
    as_json = report.to_dict()
    assert as_json["verdict"] == "reject"
    assert as_json["conversations"] == 2
    assert set(as_json["problems"][0]) == {"line", "level", "message", "fix"}
    assert len(as_json["problems"]) == 31
    text = report.summary()
    assert text.count("\n  Line ") == 20
    assert "Line 21: " in text
    assert "Line 22: " not in text
    assert "And 11 more: 10 x not json, 1 x empty text." in text


def test_the_summary_names_faults_before_warnings(data):
    text = "".join(line(user(str(n)), assistant("")) + "\n" for n in range(30)) + "x\n"
    assert "Line 31: This line is not JSON" in check(data(text)).summary()


def test_no_more_than_a_limit_of_problems_is_kept_and_the_rest_is_counted(data, monkeypatch):
    monkeypatch.setattr(data_report, "MAX_LISTED", 5)
    report = check(data("x\n" * 100))
    assert report.counts == {"not_json": 100}
    assert len(report.problems) == 6
    assert "95 more of this kind" in report.problems[-1].message


@pytest.mark.parametrize("function", [check, load_conversations])
def test_a_file_that_cannot_be_opened_is_one_sentence(tmp_path, function):
    with pytest.raises(ValueError, match="There is no file"):
        function(tmp_path / "missing.jsonl")
    with pytest.raises(ValueError, match="is a folder"):
        function(tmp_path)
    with pytest.raises(ValueError, match="not an ordinary file"):
        function("/dev/null")


def test_a_file_that_may_not_be_read(data, monkeypatch):
    path = data(GOOD)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # the tests may run as root, who may read everything
    with pytest.raises(ValueError, match="may not be read"):
        check(path)


def test_a_name_that_no_file_can_have():
    with pytest.raises(ValueError, match="cannot be read"):
        check("x" * 10_000)


def test_a_long_line_of_ordinary_text_is_read(data):
    report = check(data(line(user("hi"), assistant("some words. " * 500_000))), max_seq_len=10**9)
    assert report.conversations == 1
    assert report.verdict != "reject"


def test_many_messages_in_one_conversation(data):
    messages = [message for n in range(10_000) for message in (user(str(n)), assistant(str(n)))]
    assert check(data(line(*messages)), max_seq_len=10**9).conversations == 1
    report = check(data(line(*messages[1:])))
    assert report.verdict == "reject"
    report = check(data(line(*([{"role": "human", "content": 1}] * 100_000))))
    assert "and 99,995 more" in report.problems[0].message
    assert len(report.problems) < 5


def test_a_line_made_of_brackets_is_refused_before_it_fills_the_memory(data):
    report = check(data('{"messages": [' + "{}," * 600_000 + "{}]}\n" + GOOD))
    assert found(report) == [(1, "error", "too_large")]
    assert report.conversations == 1


def test_a_line_longer_than_the_limit_is_skipped_and_the_next_ones_are_read(data, monkeypatch):
    monkeypatch.setattr("nanochat_core.data_reader.MAX_PIECE_BYTES", 200)
    monkeypatch.setattr("nanochat_core.data_reader._CHUNK_BYTES", 64)
    long = line(user("a"), assistant("b" * 1000))
    assert found(check(data(f"{long}\n{GOOD}\nx\n"))) == [(1, "error", "too_large"), (3, "error", "not_json")]
    report = check(data(f"[{GOOD},\n{long},\n{GOOD}]"))
    assert found(report) == [(1, "error", "json_array"), (2, "error", "too_large")]
    assert "rest of the file was not read" in report.problems[1].message


def test_a_nesting_bomb_without_a_line(data):
    report = check(data("[" * 100_000))
    assert "nested_too_deeply" in {problem.kind for problem in report.problems}


def test_saving_is_readable_and_atomic(tmp_path, monkeypatch):
    path = tmp_path / "new" / "saved.jsonl"
    save_conversations(path, [conversation(user("caf\xe9 \u2028"), assistant("\U0001f600"))])
    text = path.read_text(encoding="utf-8")
    assert "caf\xe9 \\u2028" in text
    assert "\U0001f600" in text
    with pytest.raises(ValueError, match="Conversation 2 cannot be saved"):
        save_conversations(path, [conversation(user("x"), assistant("y")), {"messages": [user(float("nan"))]}])
    with pytest.raises(ValueError, match="Conversation 1 cannot be saved"):
        save_conversations(path, ["hello"])
    assert path.read_text(encoding="utf-8") == text
    assert [entry.name for entry in path.parent.iterdir()] == ["saved.jsonl"]


def test_saving_where_one_may_not(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot be written"):
        save_conversations(tmp_path / "file" / "saved.jsonl", [conversation(user("x"), assistant("y"))])


def test_the_public_names():
    assert set(module.__all__) == {"Problem", "Report", "check", "load_conversations", "save_conversations"}
