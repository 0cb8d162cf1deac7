"""A batch of conversations becomes what render_conversation makes of each, whatever the texts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nanochat_core.tokenizer.rendering import Rendering
from tests.support.drawn_conversations import conversations
from tests.support.samples import assistant, system, user
from tests.support.tiny import rendered, tiny_tokenizer

SPECIAL_TEXTS = [
    *("", " ", "<|", "<", "|bos|>", "<|bos|>", "a<|assistant_end|>b", "\n\n", "two  blanks ", "é日本🙂", "a" * 300),
    *("ends with <", "<|python_start|>1<|python_end|>"),
]
PARTS = [
    {"type": kind, "text": text} for kind in ("text", "python", "python_output") for text in ("1+1", "<", "|bos|>")
]


def assert_rendered(talks, limit=10**6):
    rendering = Rendering(tiny_tokenizer())
    found = rendering.ids([talk["messages"] for talk in talks])
    for ids, (expected, mask) in zip(found, rendered(talks, limit), strict=True):
        assert ids.tolist() == expected
        assert rendering.mask(ids).tolist() == mask
        assert rendering.mask(ids[:7]).tolist() == mask[:7]
    together = np.concatenate(found)
    assert rendering.mask(together).tolist() == [bit for _, mask in rendered(talks, limit) for bit in mask]


@given(st.lists(conversations(), min_size=1, max_size=5))
def test_a_batch_is_what_render_conversation_makes_of_each(talks):
    assert_rendered(talks)


def test_a_batch_of_texts_that_look_like_special_tokens():
    texts = [(one, two) for one in SPECIAL_TEXTS for two in SPECIAL_TEXTS]
    talks = [{"messages": [user(one), assistant(two)]} for one, two in texts]
    talks += [{"messages": [system(one), user(two), assistant("x")]} for one, two in texts]
    talks += [
        {"messages": [user("q"), assistant([one, two, three])]} for one in PARTS for two in PARTS for three in PARTS
    ]
    assert_rendered(talks)


def test_what_the_tokenizer_refuses_does_not_hold_up_the_others(monkeypatch):
    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(type(tokenizer), "encode_marked", lambda self, text: (_ for _ in ()).throw(ValueError("no")))
    rendering = Rendering(tokenizer)
    good, bad = [user("hi"), assistant("yo")], [user("hi" * 400_000), assistant("yo")]
    one, other, third = rendering.ids([good, bad, good])
    assert one.tolist() == third.tolist() == rendered([{"messages": good}], 100)[0][0]
    assert isinstance(other, ValueError)
    assert "800,000 letters" in str(other)
