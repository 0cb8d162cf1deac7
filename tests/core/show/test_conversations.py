"""What notebooks show: everything escaped, nothing that a page could run, and the numbers those of the training."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat_core import Run, check, show_conversation, show_tokens
from nanochat_core.config import FinetuneConfig
from nanochat_core.evaluation.scores import Answer, EvalResult, Score
from nanochat_core.runs.card import run_card
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.status import RunStatus
from nanochat_core.show.markup import marked, note
from tests.support.samples import assistant, system, user
from tests.support.tiny import tiny_tokenizer, write_conversations

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>&\"'"


def assert_harmless(drawn):
    """No script, no style sheet, no link, no handler; and no colour that is lost on a dark or on a light page."""
    tags = re.findall(r"<([a-z0-9]+)([^>]*)>", drawn)
    assert {name for name, _ in tags}.isdisjoint({"script", "style", "img", "iframe", "a", "link", "object"})
    assert not any(re.search(r"\bon\w+=|javascript:|url\(", attributes) for _, attributes in tags)
    assert not re.search(r"(?<![-\w])color:|#[0-9a-f]{3,6}\b", "".join(attributes for _, attributes in tags))
    assert "rgb(" not in drawn


def text_of(drawn):
    return html.unescape(re.sub(r"<[^>]*>", "", drawn))


def test_a_conversation_with_its_roles():
    shown = show_conversation({"messages": [system("Be kind."), user(EVIL), assistant("a\nb")]})
    assert_harmless(shown._repr_html_())
    assert EVIL in text_of(shown._repr_html_())
    assert repr(shown) == f"system: Be kind.\nuser: {EVIL}\nassistant: a\nb"


def test_tool_calls_are_named_as_such():
    kinds = {"python": "1+1", "python_output": "2", "text": "It is 2."}
    parts = [{"type": kind, "text": text} for kind, text in kinds.items()]
    shown = show_conversation([user("1+1?"), assistant(parts)])
    assert "[calculator: 1+1][result: 2]It is 2." in text_of(shown.html)


@pytest.mark.parametrize("draft", [[], [{"role": "user"}], [{"role": EVIL, "content": None}], [user(["x"])]])
def test_drafts_are_shown_too(draft):
    assert_harmless(show_conversation(draft).html)


@pytest.mark.parametrize("wrong", [{}, "hello", None, {"messages": 3}, ["hello"]])
def test_what_is_no_conversation_is_refused(wrong):
    with pytest.raises(ValueError, match="give one of them"):
        show_conversation(wrong)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="↵\r\n\t→␍"), min_size=1, max_size=60))
def test_the_text_of_the_tokens_is_all_there(text):
    messages = [user(text), assistant(f"{text}{EVIL}")]
    shown = show_tokens(tiny_tokenizer(), messages)
    assert_harmless(shown.html)
    drawn = shown.html.split("font-family:monospace", 1)[1].split(">", 1)[1].split("</div>")[0]
    whole = tiny_tokenizer().decode(tiny_tokenizer().render_conversation(messages)[0])
    assert text_of(drawn) == re.sub(r"<\|(\w+)\|>", r"\1", whole) or "<|" in text


def test_trained_text_is_underlined_and_cut_text_struck_through():
    messages = [user("which word is this"), assistant("all of them are words")]
    ids, mask = tiny_tokenizer().render_conversation(messages)
    limit = len(ids) - 4
    shown = show_tokens(tiny_tokenizer(), messages, max_seq_len=limit)
    body = shown.html.split("<div><small>")[0]
    trained = "".join(text_of(part) for part in re.findall(r"<u [^>]*>.*?</u>", body))
    cut = "".join(text_of(part) for part in re.findall(r"<s [^>]*>.*?</s>", body))
    kept = [token for token, keep in zip(ids[:limit], mask[:limit]) if keep]
    assert trained == tiny_tokenizer().decode(kept)
    assert cut == tiny_tokenizer().decode(ids[limit:]).replace("<|", "").replace("|>", "")
    numbers = dict(re.findall(r"(Tokens|trained|context|cut off|special): ([\d,]+)", text_of(body)))
    assert numbers == {
        "Tokens": str(len(ids)),
        "trained": str(len(kept)),
        "context": str(limit - len(kept)),
        "cut off": "4",
        "special": "5",
    }
    assert "4 tokens are cut off" in text_of(body)
    assert repr(shown).startswith(f"Tokens {len(ids)}, trained {len(kept)}")
    assert f"[{tiny_tokenizer().decode(kept)}]" in repr(shown)


def test_what_teaches_nothing_is_said():
    shown = show_tokens(tiny_tokenizer(), [user("long " * 50), assistant("x")], max_seq_len=20)
    assert "Nothing here is trained" in text_of(shown.html)


def test_a_long_conversation_is_counted_but_not_drawn_whole():
    shown = show_tokens(tiny_tokenizer(), [user("x"), assistant("a b " * 20_000)], 10**6)
    assert len(shown.html) < 400_000
    assert "not drawn here" in shown.html


def test_the_tokenizer_comes_first():
    with pytest.raises(ValueError, match="tokenizer comes first"):
        show_tokens([user("x"), assistant("y")], tiny_tokenizer())


def test_a_malformed_conversation_says_which_message():
    with pytest.raises(ValueError, match="Message 1"):
        show_tokens(tiny_tokenizer(), [assistant("x")])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (None, "accepted (3 faultless conversations)"),
        ('{"messages": [{"role": "<b>&", "content": "x"}]}\n' * 30, "rejected"),
    ],
)
def test_a_report(tmp_path, lines, said):
    path = write_conversations(tmp_path / "mine.jsonl", 3)
    if lines is not None:
        path.write_text(lines)
    report = check(path, tiny_tokenizer())
    assert_harmless(report._repr_html_())
    text = text_of(report._repr_html_())
    assert f"mine.jsonl: {said}" in text
    assert str(tmp_path) not in text
    assert str(tmp_path) not in repr(report)
    if lines is not None:
        assert "<b>&" in text
        assert report._repr_html_().count("<tr>") == 21  # the head, and twenty of the problems
        assert "more" in text


def test_an_evaluation():
    answers = [Answer("cafe", EVIL, ["7 am", "seven"], f"reply {number}", number == 0) for number in range(30)]
    result = EvalResult(1, 30, {"cafe": Score(1, 30)}, answers)
    assert_harmless(result._repr_html_())
    text = text_of(result._repr_html_())
    assert "1 of 30 questions answered (3%)" in text
    assert "Wrong answers (29), the first 20" in text
    assert "7 am or seven" in text
    assert EVIL in text
    assert len(repr(result)) < 200


@pytest.fixture
def run(home):
    return create_run(FinetuneConfig(str(write_conversations(home / "mine.jsonl", 5)), output_tag="mine"))


def test_a_run_at_a_glance(run):
    assert "queued" in text_of(run._repr_html_())
    for step in (0, 4):
        run.append_metrics({"step": step, "time": 100.0 + 20 * step})
    run.write_status(state="failed", step=4, steps=16, train_loss=2.5, error=EVIL, remedy="Lower it.", best_step=3)
    drawn = run._repr_html_()
    assert_harmless(drawn)
    text = text_of(drawn)
    for said in ("Run mine", "failed", "step 4 of 16", "2.5000", "mine.jsonl (5 conversations)", "1 min 20 s", EVIL):
        assert said in text
    assert '<progress max="16" value="4"' in drawn
    assert repr(run) == "Run(tag='mine')"


def test_a_card_warns_of_a_run_that_goes_on(run):
    silent, rises = "There has been no sign of life for an hour.", "The loss rises."
    drawn = run_card("mine", RunStatus("stalled", 4, 16, error=silent, warning=rises), {}, None)
    assert marked("stalled", "warn") in drawn
    assert note(silent, "warn") in drawn
    assert note(rises, "warn") in drawn


def test_a_free_tag(run):
    assert Run.free_tag("other") == "other"
    assert Run.free_tag("mine") == "mine-2"
    with pytest.raises(ValueError, match="output_tag"):
        Run.free_tag("../mine")
