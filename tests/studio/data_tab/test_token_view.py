"""The drawn tokens are the training's tokens, every text in them is escaped, and no kind is told by colour alone."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.data_tab.token_view import SHOWN, count_tokens, token_view
from tests.support.samples import assistant, user
from tests.support.tiny import tiny_tokenizer


def text_of(drawn):
    """What a person reads: without the elements for screen readers, marks of white space taken back."""
    body = drawn.split('<div class="tokens"', 1)[1].split(">", 1)[1].split("</div>")[0]
    body = re.sub(r'<span class="sr">.*?</span>', "", body)
    body = re.sub(r'<span class="tok special">(.*?)</span>', r"<|\1|>".replace("<", "\0").replace(">", "\1"), body)
    return html.unescape(re.sub(r"<[^>]*>", "", body)).replace("↵\n", "\n").replace("\0", "<").replace("\1", ">")


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="↵\r\t→␍\0\1"), min_size=1), st.integers(8, 90)
)
def test_the_text_is_all_there_and_escaped(text, longest):
    messages = [user(text), assistant(f"{text}<script>alert(1)</script>")]
    drawn = token_view(messages, tiny_tokenizer(), 10_000)
    ids, _ = tiny_tokenizer().render_conversation(messages, 10_000)
    assert text_of(drawn) == tiny_tokenizer().decode(ids)
    assert "<script" not in drawn


def test_counts_are_the_trainings():
    messages = [user("hello"), assistant([{"type": "python", "text": "1+1"}, {"type": "python_output", "text": "2"}])]
    ids, mask = tiny_tokenizer().render_conversation(messages, 10_000)
    counts = count_tokens(ids, mask, 10, tiny_tokenizer().special_ids)
    assert counts.total == len(ids)
    assert counts.trained == sum(mask[1:10])
    assert counts.cut == len(ids) - 10
    assert counts.trained + counts.context + counts.cut == counts.total
    assert counts.special == 9


@pytest.mark.parametrize("kind", ["trained", "context", "cut"])
def test_each_kind_is_named_for_a_screen_reader(kind):
    drawn = token_view([user("hello there"), assistant("long answer " * 20)], tiny_tokenizer(), 40)
    assert f'<span class="sr">{kind}: </span>' in drawn


def test_a_long_conversation_is_counted_but_not_drawn_whole():
    drawn = token_view([user("x"), assistant("a b " * 20_000)], tiny_tokenizer(), 64)
    assert drawn.count('class="tok"') <= SHOWN
    assert "more that are not drawn" in drawn


@pytest.mark.parametrize(
    ("messages", "said"),
    [([], "at least one message"), ([assistant("x")], "user first"), ([user("\ud800")], "surrogate")],
)
def test_a_draft_that_cannot_be_rendered_says_why(messages, said):
    assert said in token_view(messages, tiny_tokenizer(), 64)


def test_nothing_trained_is_said():
    assert "Nothing here is trained" in token_view([user("long " * 50), assistant("x")], tiny_tokenizer(), 20)
