"""check, load_conversations, save_conversations: every fault of a data file with its line, and what good files give."""

import json

import pytest

from nanochat_core.data import conversations as module
from nanochat_core.data import report as data_report
from nanochat_core.data.conversations import check, load_conversations, save_conversations
from tests.support.faulty_files import FAULTS, GOOD_FILES, WARNINGS
from tests.support.samples import GOOD, assistant, conversation, line, system, user


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


@pytest.mark.parametrize("name", GOOD_FILES)
def test_good_files_are_accepted(data, name):
    report = check(data(GOOD_FILES[name]))
    assert (report.verdict, report.conversations, report.problems) == ("accept", 1, ())


@pytest.mark.parametrize("name", WARNINGS)
def test_warnings_leave_the_file_usable(data, name):
    text, number, kind = WARNINGS[name]
    path = data(text)
    report = check(path)
    assert found(report) == [(number, "warning", kind)]
    assert report.verdict == "accept_with_warning"
    assert len(load_conversations(path)) == report.conversations > 0


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
        "swapped_roles",
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
    report = check(data(GOOD + "\n" + "x\n" * 30 + line(user(""), assistant("a")) + "\n"))
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
    text = "".join(line(user(""), assistant(str(n))) + "\n" for n in range(30)) + "x\n"
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
    monkeypatch.setattr("nanochat_core.data.reader.MAX_PIECE_BYTES", 200)
    monkeypatch.setattr("nanochat_core.data.reader._CHUNK_BYTES", 64)
    monkeypatch.setattr("nanochat_core.data.reader.BLOCK_BYTES", 64)
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
