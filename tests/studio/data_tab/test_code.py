"""The code under each step of the Data tab runs as it is shown, and does what the step does."""

import io
from contextlib import redirect_stdout
from dataclasses import astuple

import pytest

from nanochat_core.data.conversations import check, load_conversations
from studio.data_tab import code as data_code
from studio.data_tab import handlers
from studio.data_tab.view import Measure
from studio.datasets import sessions
from tests.support.samples import GOOD, assistant, line, user
from tests.support.tiny import install_tiny_model, tiny_tokenizer

FOREIGN = '{"prompt": "p", "completion": "q"}'


@pytest.fixture
def how(home):
    """With a model whose tokenizer counts."""
    return Measure(f"pretrained/{install_tiny_model(home)}", 64, 0.5)


def opened(home, *lines):
    path = home / "data" / "mine.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return handlers.pick(dict(handlers.NOWHERE), str(path)), path


def shown(at, how):
    return data_code.codes(sessions.get(at["session"]), at["row"], at["source"], how)


def run(code):
    """(what it printed, its names); the last line's value is printed as a cell shows it."""
    *lines, last = code.splitlines()
    names = {}
    with redirect_stdout(io.StringIO()) as printed:
        if last.startswith("show_"):
            exec("\n".join(lines), names)
            print(eval(last, names))
        else:
            exec(code, names)
    return printed.getvalue(), names


def test_bring_converts_into_a_copy(home, how):
    at, path = opened(home, GOOD, FOREIGN)
    printed, _ = run(shown(at, how).bring)
    assert "2 conversations" in printed
    assert check(path.with_name("mine-imported.jsonl"), tiny_tokenizer()).verdict != "reject"
    assert FOREIGN in path.read_text()


def test_fix_says_and_repairs(home, how):
    at, path = opened(home, GOOD, FOREIGN)
    printed, _ = run(shown(at, how).fix)
    assert "Line 2" in printed
    assert len(load_conversations(path.with_name("mine-fixed.jsonl"), tiny_tokenizer())) == 2


def test_save_writes_the_same_conversations(home, how):
    at, path = opened(home, GOOD, line(user("a"), assistant("b")))
    run(shown(at, how).save)
    assert [one["messages"][0]["content"] for one in load_conversations(path, tiny_tokenizer())] == ["hi", "a"]


@pytest.mark.parametrize("limit", [data_code.SHOWN_BYTES, 0])
def test_tokens_are_those_of_the_shown_conversation(home, how, monkeypatch, limit):
    monkeypatch.setattr(data_code, "SHOWN_BYTES", limit)
    at, _ = opened(home, GOOD, "", line(user("second"), assistant("three fruits")))
    at = handlers.choose(at, 1)
    code = shown(at, how).tokens
    assert ("json.loads" in code) == (limit == 0)
    printed, names = run(code)
    assert names["conversation"]["messages"][0]["content"] == "second"
    assert "three" in printed


def test_whole_counts_the_split(home, how):
    at, _ = opened(home, *[line(user(f"q {number}"), assistant("three fruits")) for number in range(4)])
    printed, names = run(shown(at, how).whole)
    assert (len(names["train"]), len(names["validation"])) == (2, 2)
    assert printed.count("2 conversations") == 2


@pytest.mark.processes
@pytest.mark.processes
def test_an_example_an_upload_and_nothing_at_all(home, how, tmp_path):
    example = next(value for label, value in handlers.choices([]) if "(example)" in label)
    printed, _ = run(shown(handlers.pick(dict(handlers.NOWHERE), example), how).whole)
    assert "tokens are learned" in printed
    upload = tmp_path / "new.jsonl"
    upload.write_text(GOOD + "\n")
    at = handlers.upload(dict(handlers.NOWHERE), str(upload))
    assert "# save it first" in shown(at, how).whole
    handlers.save(at)
    for code in astuple(data_code.codes(None, None, "", how)):
        compile(code, "code", "exec")
        assert "example_data.jsonl" in code
