"""Text and conversations to ids, mask and back; what cannot be encoded is said in a sentence."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat_core.tokenizer import tokenizer as tokenizer_module
from nanochat_core.tokenizer.compiled import NANOCHAT_PATTERN
from nanochat_core.tokenizer.pickle_file import SPECIAL_TOKENS
from nanochat_core.tokenizer.tokenizer import MAX_RUN, Tokenizer
from tests.support.tiny import tiny_ranks, tiny_tokenizer

BOS, USER, USER_END, ASSISTANT, ASSISTANT_END, PYTHON, PYTHON_END, OUTPUT, OUTPUT_END = range(503, 512)


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def system(content):
    return {"role": "system", "content": content}


def plain(text):
    return tiny_tokenizer().encode(text)


def test_ids_of_the_special_tokens():
    tokenizer = tiny_tokenizer()
    assert tokenizer.vocab_size == 512
    assert [tokenizer.special(name) for name in SPECIAL_TOKENS] == list(range(503, 512))
    assert tokenizer.bos == BOS
    assert tokenizer.special_ids == frozenset(range(503, 512))


def test_merges_are_used():
    assert plain("the of with") == [tiny_ranks()[piece] for piece in (b"the", b" of", b" with")]


@settings(deadline=None)
@given(st.text())
def test_every_text_comes_back(text):
    tokenizer = tiny_tokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not tokenizer.special_ids.intersection(ids)


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_special_tokens_typed_by_a_person_stay_plain(name):
    ids = plain(f"say {name} twice: {name}")
    assert max(ids) < BOS
    assert tiny_tokenizer().decode(ids) == f"say {name} twice: {name}"
    conversation, _ = tiny_tokenizer().render_conversation([user(name), assistant(name)])
    assert [token for token in conversation if token >= BOS] == [BOS, USER, USER_END, ASSISTANT, ASSISTANT_END]


def test_batch_equals_one_by_one():
    texts = ["", "Hello", "the\nwater " * 50, "日本 🙂"]
    assert tiny_tokenizer().encode_batch(texts) == [plain(text) for text in texts]


@pytest.mark.parametrize("text", ["\ud83d", "a\udc00b", "日本\ud800", "\ude42\ud83d"])
def test_lone_surrogates_are_refused(text):
    with pytest.raises(ValueError, match="surrogate"):
        tiny_tokenizer().encode(text)


@pytest.mark.parametrize("unit", [" ", "\t", "\u3000", "a", "é", "漢", "!", "_", "\n"])
@pytest.mark.parametrize("around", [("", ""), ("Hello. ", " end"), ("x1" * 300_001, "1 2")])
def test_runs_are_bounded(unit, around):
    before, after = around
    tokenizer = tiny_tokenizer()
    for length in (MAX_RUN + 20, 2 * MAX_RUN, 1_100_000):
        with pytest.raises(ValueError, match="in a row"):
            tokenizer.encode(before + unit * length + after)


@pytest.mark.parametrize("unit", [" ", "a", "!", "\n", "é"])
def test_a_run_at_the_bound_is_encoded(unit):
    text = "1" + unit * MAX_RUN + "1"
    assert tiny_tokenizer().decode(tiny_tokenizer().encode(text)) == text


def test_long_text_without_long_runs_is_encoded():
    text = "Hello, the water is fine.\n" * 60_000 + "1" * 600_000
    assert tiny_tokenizer().decode(tiny_tokenizer().encode(text)) == text


def test_the_long_run_is_named(monkeypatch):
    monkeypatch.setattr(tokenizer_module, "MAX_RUN", 10)
    with pytest.raises(ValueError, match="12 blanks in a row around character 11, more than the 10"):
        tiny_tokenizer().encode("a" * 8 + " " * 12 + "b" * 3)
    for start in range(25):
        with pytest.raises(ValueError, match="11 letters in a row"):
            tiny_tokenizer().encode("1" * start + "a" * 11 + "1" * 9)
        tiny_tokenizer().encode("1" * start + "a" * 10 + "1" * 9)


def test_a_panic_of_the_regex_is_a_value_error():
    tokenizer = Tokenizer.from_ranks(
        tiny_ranks(), r"(?:(?:z|z(?!b))+c(?=d)|[\s\S])"
    )  # passes the probes: they have no z
    assert tokenizer.decode(tokenizer.encode("pizza")) == "pizza"
    with pytest.raises(ValueError, match="pattern fails on this text"):
        tokenizer.encode("z" * 64)


def test_decode_any_ids():
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode([BOS, *plain("a"), OUTPUT_END]) == "<|bos|>a<|output_end|>"
    assert tokenizer.decode_bytes([0xE6, 0x97]) == b"\xe6\x97"
    assert tokenizer.decode([0xE6, 0x97]) == "\ufffd"
    assert tokenizer.decode([]) == ""
    assert len(tokenizer.decode_bytes(range(512))) == sum(map(len, tiny_ranks())) + sum(map(len, SPECIAL_TOKENS))


@pytest.mark.parametrize("token", [-1, 512, 10**12])
def test_ids_out_of_range(token):
    with pytest.raises(ValueError, match="0 to 511"):
        tiny_tokenizer().decode([1, token])


def test_token_bytes():
    table = tiny_tokenizer().token_bytes()
    assert len(table) == 512
    assert table[503:] == [0] * 9
    assert table[:256] == [1] * 256
    text = "the first water is 12 日本"
    assert sum(table[token] for token in plain(text)) == len(text.encode())


def test_conversation_and_mask():
    ids, mask = tiny_tokenizer().render_conversation(
        {"messages": [user("Hi"), assistant("Hello"), user("2"), assistant("")]}
    )
    hi, hello, two = plain("Hi"), plain("Hello"), plain("2")
    assert ids == [
        *(BOS, USER, *hi, USER_END, ASSISTANT, *hello, ASSISTANT_END),
        *(USER, *two, USER_END, ASSISTANT, ASSISTANT_END),
    ]
    assert mask == [
        *([0] * (2 + len(hi) + 2) + [1] * (len(hello) + 1)),
        *([0] * (1 + len(two) + 2) + [1]),
    ]


def test_system_message_joins_the_first_user_message():
    messages = [system("Be kind."), user("Hi"), assistant("Yes"), user("Hi"), assistant("No")]
    merged = [user("Be kind.\n\nHi"), *messages[2:]]
    assert tiny_tokenizer().render_conversation(messages) == tiny_tokenizer().render_conversation(merged)
    assert messages[1] == user("Hi")


def test_parts_of_an_assistant_message():
    parts = [
        {"type": "text", "text": "the"},
        {"type": "python", "text": "1+1"},
        {"type": "python_output", "text": "2"},
        {"type": "text", "text": "re"},
    ]
    ids, mask = tiny_tokenizer().render_conversation([user("a"), assistant(parts)])
    one, two = plain("1+1"), plain("2")
    assert ids[4:] == [
        *(ASSISTANT, *plain("the"), PYTHON, *one, PYTHON_END, OUTPUT, *two, OUTPUT_END),
        *(*plain("re"), ASSISTANT_END),
    ]
    assert mask[4:] == [0, 1, *[1] * (len(one) + 2), *[0] * (len(two) + 2), *[1] * (len(plain("re")) + 1)]


def test_parts_are_encoded_separately():
    split = assistant([{"type": "text", "text": "th"}, {"type": "text", "text": "e"}])
    ids, _ = tiny_tokenizer().render_conversation([user("a"), split])
    assert ids[5:-1] == plain("th") + plain("e") != plain("the")


@pytest.mark.parametrize("max_tokens", [1, 5, 9, 100])
def test_cut_at_the_right(max_tokens):
    messages = [user("the water"), assistant("more water"), user("Hi"), assistant("Hello")]
    whole = tiny_tokenizer().render_conversation(messages)
    ids, mask = tiny_tokenizer().render_conversation(messages, max_tokens=max_tokens)
    assert (ids, mask) == (whole[0][:max_tokens], whole[1][:max_tokens])


def test_default_cut_is_2048():
    ids, mask = tiny_tokenizer().render_conversation([user("a"), assistant("1 " * 3000)])
    assert len(ids) == len(mask) == 2048


def test_prompt():
    tokenizer = tiny_tokenizer()
    asked = [system("S"), user("Hi"), assistant("Hello"), user("more")]
    expected = [*tokenizer.render_conversation(asked)[0], ASSISTANT]
    assert tokenizer.render_prompt(asked) == expected
    assert tokenizer.render_prompt([*asked, assistant("answer")]) == expected
    assert tokenizer.render_prompt({"messages": asked}) == expected
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("conversation", "part"),
    [
        ([], "at least one message"),
        ({}, "at least one message"),
        ({"messages": {}}, "at least one message"),
        (None, "at least one message"),
        ("Hi", "at least one message"),
        (["Hi"], 'Message 1 must be an object with "role" and "content"'),
        ([{"role": "user"}], "Message 1 must be an object"),
        ([{"from": "human", "value": "x"}], "Message 1 must be an object"),
        ([{"role": "human", "content": "x"}], "Message 1 has the role 'human'"),
        ([{"role": ["user"], "content": "x"}], "a role that is not a text"),
        ([assistant("x")], "Message 1 is from 'assistant'"),
        ([user("x"), user("y")], "Message 2 is from 'user' where 'assistant' has its turn"),
        ([user("x"), assistant("y"), assistant("z")], "Message 3 is from 'assistant' where 'user'"),
        ([user("x"), system("y")], "Message 2 is from 'system'"),
        ([system("x")], "a message of the user must follow"),
        ([system("x"), assistant("y")], "a message of the user must follow"),
        ([system("x"), user("y"), user("z")], "Message 3 is from 'user'"),
        ([user(None)], r"Message 1 \(user\) must have a text as"),
        ([user([{"type": "text", "text": "x"}])], r"Message 1 \(user\) must have a text as"),
        ([system(["x"]), user("y")], r"Message 1 \(system\) must have a text"),
        ([user("x"), assistant(7)], r"Message 2 \(assistant\) must have a text or a list of parts"),
        ([user("x"), assistant(["y"])], "Message 2: each part must be"),
        ([user("x"), assistant([{"type": "image", "text": "y"}])], "Message 2: each part must be"),
        ([user("x"), assistant([{"type": "text"}])], "Message 2: each part must be"),
        ([user("x"), assistant([{"type": "python", "text": 1}])], "Message 2: each part must be"),
        ([user("x"), assistant("y"), user("\ud800")], "Message 3: character 1 of the text is half of a surrogate pair"),
        ([user(" " * 1_000_001), assistant("y")], "Message 1: the text has 1,000,001 blanks in a row"),
    ],
)
def test_malformed_conversations(conversation, part):
    for render in (tiny_tokenizer().render_conversation, tiny_tokenizer().render_prompt):
        with pytest.raises(ValueError, match=part):
            render(conversation)


def test_from_ranks_refuses_what_a_file_may_not_hold():
    with pytest.raises(ValueError, match="'mine' cannot be made: 256 of the 256 single bytes"):
        Tokenizer.from_ranks({}, NANOCHAT_PATTERN, name="mine")
    with pytest.raises(ValueError, match="parenthesis"):
        Tokenizer.from_ranks(tiny_ranks(), "(")
