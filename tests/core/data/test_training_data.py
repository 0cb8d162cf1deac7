"""What the training gets of the cached tokens: the examples and the order that it always got, in little memory."""

import numpy as np
import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.data.conversations import load_conversations
from nanochat_core.data.tokens.cache import tokenized
from nanochat_core.data.tokens.plan import Examples, Plan
from nanochat_core.data.training_data import load_training_data
from nanochat_core.tokenizer.rendering import render
from tests.support.samples import assistant, line, user
from tests.support.tiny import tiny_tokenizer, write_conversations


@pytest.mark.parametrize("replay_ratio", [0.0, 0.4])
def test_the_training_gets_the_examples_and_the_order_that_it_always_got(cached, tmp_path, replay_ratio):
    path, replay = (write_conversations(tmp_path / f"{count}.jsonl", count) for count in (40, 13))
    config = FinetuneConfig(
        str(path), max_seq_len=30, replay_path=str(replay), replay_ratio=replay_ratio, seed=7, split="tail"
    )
    for _ in range(2):  # made, then found
        data = load_training_data(config, tiny_tokenizer())
        talks = load_conversations(path, tiny_tokenizer(), 30)
        expected = [one for one in render(talks, tiny_tokenizer(), 30) if one.supervised]
        assert len(data.train) + len(data.validation) == len(expected)
        for example, other in zip([*data.train, *data.validation], expected, strict=True):
            assert example.ids.dtype == np.int32
            assert (example.ids.tolist(), example.mask.tolist()) == (other.ids.tolist(), other.mask.tolist())
            assert (example.index, example.cut) == (other.index, other.cut)
            assert (example.inputs, example.supervised) == (other.inputs, other.supervised)
            assert data.conversations[example.index] == talks[example.index]
        assert data.train.inputs.tolist() == [example.inputs for example in data.train]
        assert data.train.supervised.tolist() == [example.supervised for example in data.train]
        plan = Plan(data.train, data.replay, replay_ratio, 8, 7)
        for number in (0, 1, 5):
            assert [one.index for one in plan.epoch(number)] == shuffled_as_before(plan, number)
            assert plan.epoch(number).inputs().tolist() == [one.inputs for one in plan.epoch(number)]


def shuffled_as_before(plan, epoch):
    """The order as it was made of a list of examples: resumed runs depend on it."""
    import random

    order = list(range(len(plan.replay)))
    random.Random(f"{plan.seed}:replay").shuffle(order)
    start = epoch * plan.replayed_per_epoch
    replayed = [order[i % len(order)] for i in range(start, start + plan.replayed_per_epoch)]
    chosen = list(plan.examples) + [plan.replay[i] for i in replayed]
    random.Random(f"{plan.seed}:{epoch}").shuffle(chosen)
    return [one.index for one in chosen]


def test_a_changed_file_is_noticed_where_a_conversation_is_looked_up(cached, tmp_path):
    path = write_conversations(tmp_path / "data.jsonl", 12)
    data = load_training_data(FinetuneConfig(str(path)), tiny_tokenizer())
    path.write_text("x" + path.read_text())
    with pytest.raises(ValueError, match="has changed while it was in use"):
        data.conversations[3]


def test_the_memory_of_the_examples_does_not_grow(cached, tmp_path):
    import tracemalloc

    path = tmp_path / "data.jsonl"
    path.write_text("".join(line(user(f"{n}"), assistant("a b c d " * 250)) + "\n" for n in range(1000)))
    tokens = tokenized(path, tiny_tokenizer(), 2048)
    examples = Examples(tokens, tiny_tokenizer())
    assert sum(examples.inputs) > 500_000
    tracemalloc.start()
    total = sum(example.inputs for example in examples)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == sum(examples.inputs)
    assert peak < 200_000


def test_reading_a_large_file_is_said(cached, tmp_path, monkeypatch):
    from nanochat_core.data import training_data

    monkeypatch.setattr(training_data, "_NOTE_SECONDS", -1)
    monkeypatch.setattr(training_data, "_SAY_SECONDS", -1)
    said, noted = [], []
    reading = training_data.Reading(said.append, lambda doing: noted.append(doing))
    tokenized(write_conversations(tmp_path / "data.jsonl", 12), tiny_tokenizer(), 64, progress=reading)
    assert said == noted == ["Checking and tokenizing the data: 100% of 0 MB."]
