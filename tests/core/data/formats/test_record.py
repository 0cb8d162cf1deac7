"""Other people's formats: what is recognised, and the messages that come of it."""

import pytest

from nanochat_core.data.formats.record import import_record, imported_keys, recognise
from tests.support.samples import assistant, conversation, system, user

EXCHANGE = conversation(user("q"), assistant("a"))
RECORDS = [
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "ShareGPT", EXCHANGE),
    ({"conversation": [{"role": "User", "content": "q"}, {"from": "model", "value": "a"}]}, "ShareGPT", EXCHANGE),
    (
        {"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "chatgpt", "value": "a"}]},
        "ShareGPT",
        conversation(system("s"), user("q"), assistant("a")),
    ),
    (
        {"conversations": [{"from": "system", "value": "s"}, {"from": "tool", "value": "t", "loss": 0}]},
        "ShareGPT",
        conversation(system("s"), {"role": "tool", "content": "t", "loss": 0}),
    ),
    (
        {"conversation": [{"input": "q", "output": "a", "model": "m"}]},
        "ShareGPT",
        conversation(user("q"), {**assistant("a"), "model": "m"}),
    ),
    (
        {"conversation": [{"human": "q", "assistant": "a", "model": "m"}]},
        "ShareGPT",
        conversation(user("q"), {**assistant("a"), "model": "m"}),
    ),
    (
        {"conversation": [{"system": "s", "input": "q", "output": "a"}]},
        "ShareGPT",
        conversation(system("s"), user("q"), assistant("a")),
    ),
    ({"conversation": [{"user": "q"}, {"model": "a"}]}, "ShareGPT", EXCHANGE),
    ({"instruction": "q", "input": "", "output": "a"}, "Alpaca", EXCHANGE),
    ({"instruction": "q", "output": "a"}, "Alpaca", EXCHANGE),
    ({"instruction": "q", "input": "more", "output": "a"}, "Alpaca", conversation(user("q\n\nmore"), assistant("a"))),
    (
        {"instruction": "q", "output": "a", "system": "s", "history": [["q0", "a0"]]},
        "Alpaca",
        conversation(system("s"), user("q0"), assistant("a0"), user("q"), assistant("a")),
    ),
    ({"prompt": "q", "completion": "a"}, "prompt/completion", EXCHANGE),
    ({"question": "q", "answer": "a"}, "prompt/completion", EXCHANGE),
    ({"prompt": [user("q")], "completion": [assistant("a")]}, "prompt/completion", EXCHANGE),
]


@pytest.mark.parametrize(("record", "name", "expected"), RECORDS)
def test_records_become_messages(record, name, expected):
    assert recognise(record) == name
    assert import_record(record) == expected
    assert set(record) == imported_keys(record) & set(record)


@pytest.mark.parametrize(
    "record", [EXCHANGE, {"messages": [], "prompt": "q", "completion": "a"}, {"text": "q"}, [], "q", 5]
)
def test_what_is_not_recognised(record):
    assert recognise(record) is None
    with pytest.raises(ValueError, match="write it as messages"):
        import_record(record)


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": 1, "output": "a"},
        {"instruction": "q", "input": {"x": 1}, "output": "a"},
        {"instruction": "q", "output": "a", "history": [["q0"]]},
        {"instruction": "q", "output": "a", "history": "before"},
    ],
)
def test_words_that_cannot_be_placed_are_refused_rather_than_lost(record):
    with pytest.raises(ValueError, match=r"must be text|history"):
        import_record(record)


def test_a_record_is_not_changed():
    record = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    import_record(record)
    assert record["conversations"][0] == {"from": "human", "value": "q"}
