"""The warning about conversations that are too long: how many tokens, which turns are cut, what is left to learn."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat_core.data import length
from nanochat_core.data.conversations import check
from nanochat_core.data.length import LengthCheck, default_tokenizer
from nanochat_core.paths import PROJECT_ROOT
from tests.support.samples import assistant, line, system, user
from tests.support.tiny import tiny_tokenizer

LONG = "what is a long answer? " * 20


def fault_of(*messages, limit):
    size = len(line(*messages))
    return LengthCheck(tiny_tokenizer(), limit).fault(list(messages), size)


@pytest.mark.parametrize(
    ("cut_in", "words"),
    [
        (2, "message 2 (user) is cut off, messages 3, 4 and 5 are lost"),
        (3, "message 3 (assistant) is cut off, messages 4 and 5 are lost"),
        (4, "message 4 (user) is cut off, message 5 is lost"),
        (5, "message 5 (assistant) is cut off"),
    ],
)
def test_the_cut_and_the_lost_turns_are_named(cut_in, words):
    messages = [system("be kind"), user("first one"), assistant("an answer"), user("second"), assistant("the other")]
    tokenizer = tiny_tokenizer()
    ends = {n: len(tokenizer.render_conversation(messages[:n])[0]) for n in (3, 5)}
    ends[2] = ends[3] - len(tokenizer.encode("an answer")) - 2
    ends[4] = ends[5] - len(tokenizer.encode("the other")) - 2
    fault = fault_of(*messages, limit=ends[cut_in] - 1)
    assert f"has {ends[5]} tokens, and only {ends[cut_in] - 1} fit" in fault.message
    if cut_in == 2:
        assert fault.kind == "nothing_to_learn"
    else:
        assert (fault.level, fault.kind) == ("warning", "too_long")
        assert words in fault.message


def test_a_cut_between_two_turns_cuts_none_of_them():
    messages = [user("first one"), assistant("an answer"), user("second"), assistant("the other")]
    whole = len(tiny_tokenizer().render_conversation(messages[:2])[0])
    fault = fault_of(*messages, limit=whole)
    assert "fit: messages 3 and 4 are lost." in fault.message


def test_nothing_to_learn_when_the_question_alone_fills_the_context():
    question = user(LONG)
    tokens = len(tiny_tokenizer().encode(LONG)) + 3  # bos, user_start, user_end
    assert (
        fault_of(question, assistant("yes"), limit=tokens + 1).kind == "nothing_to_learn"
    )  # only assistant_start fits
    assert fault_of(question, assistant("yes"), limit=tokens + 2).kind == "too_long"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), min_size=1, max_size=4),
    st.integers(8, 60),
    st.booleans(),
)
def test_a_conversation_is_named_exactly_when_it_does_not_fit(pairs, limit, has_system):
    messages = [message for one, two in pairs for message in (user(one), assistant([{"type": "python", "text": two}]))]
    messages = [system("do"), *messages] if has_system else messages
    ids, mask = tiny_tokenizer().render_conversation(messages, max_tokens=10**6)
    fault = fault_of(*messages, limit=limit)
    if len(ids) <= limit:
        assert fault is None
    elif any(mask[:limit]):
        assert fault.kind == "too_long"
    else:
        assert fault.kind == "nothing_to_learn"


def test_short_conversations_are_never_tokenized():
    class Refusing:
        def __getattr__(self, name):
            raise AssertionError("the tokenizer was used")

    messages = [user("caf\xe9"), assistant("yes")]
    assert LengthCheck(Refusing(), 100).fault(messages, len(line(*messages))) is None


def test_a_very_long_conversation_is_not_counted_to_its_end(monkeypatch):
    monkeypatch.setattr(length, "COUNTED_CHARACTERS", 1000)
    fault = fault_of(user("hi"), assistant(LONG * 50), user("more"), assistant("yes"), limit=9)
    counted = int(re.search(r"more than ([\d,]+) tokens", fault.message)[1].replace(",", ""))
    assert 9 < counted <= 1005
    assert "message 2 (assistant) is cut off, messages 3 and 4 are lost" in fault.message


def test_a_text_that_the_tokenizer_refuses_is_a_fault(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(line(user("hi"), assistant("a" * 600_000)))
    report = check(path, tiny_tokenizer())
    assert report.verdict == "reject"
    assert report.problems[0].kind == "cannot_be_tokenized"
    assert "letters" in report.problems[0].message


def test_check_warns_and_still_accepts(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(line(user("hi"), assistant("yo")) + "\n" + line(user("hi"), assistant(LONG)) + "\n")
    report = check(path, tiny_tokenizer(), max_seq_len=64)
    assert report.verdict == "accept_with_warning"
    assert report.conversations == 2
    assert [(problem.line, problem.kind) for problem in report.problems] == [(2, "too_long")]


def install(folder):
    """What `find_model` takes for a checkpoint; only its tokenizer is ever read here."""
    folder.mkdir(parents=True)
    (folder / "model_000007.pt").write_bytes(b"")
    (folder / "meta_000007.json").write_text("{}")
    tiny_tokenizer().save(folder / "tokenizer.pkl")


@pytest.fixture
def places(home, tmp_path, monkeypatch):
    """(folder of the downloaded d32, folder of the starter), both still missing."""
    monkeypatch.setattr("nanochat_core.paths.PROJECT_ROOT", tmp_path / "project")
    return home / "models" / "pretrained" / "chatsft_checkpoints" / "d32", tmp_path / "project" / "starter"


@pytest.mark.parametrize("which", [0, 1])
def test_without_a_tokenizer_the_model_that_would_be_finetuned_gives_one(places, which):
    install(places[which])
    tokenizer, note = default_tokenizer()
    assert tokenizer.vocab_size == 512
    assert note == ""


def test_without_any_tokenizer_the_report_says_that_lengths_were_not_checked(places, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(line(user("hi"), assistant(LONG)))
    report = check(path, max_seq_len=64)
    assert report.verdict == "accept"
    assert "length of the conversations was not checked" in report.summary()
    assert check(path).notes == ()  # short enough for certain, so that nothing was left out


def test_a_damaged_tokenizer_is_said_and_the_starters_is_used(places):
    for place in places:
        install(place)
    (places[0] / "tokenizer.pkl").write_bytes(b"no pickle")
    tokenizer, note = default_tokenizer()
    assert tokenizer.vocab_size == 512
    assert "counted with the tokenizer of starter" in note
    assert "d32" in note


def test_without_a_length_it_is_that_of_the_model_that_would_be_finetuned(tmp_path, monkeypatch):
    path = PROJECT_ROOT / "tests" / "field_cases" / "check_length" / "long.jsonl"
    monkeypatch.setenv("NANOCHAT_STUDIO_HOME", str(tmp_path))  # only the starter is there
    report = check(path)
    assert report.verdict == "accept_with_warning"
    assert "only 512 fit" in report.problems[0].message
    assert report == check(path, None, 512)
    assert check(path, None, 2048).verdict == "accept"
