"""The thread behind the server: many callers, a full house, callers who leave, failures, and the end."""

import queue

import pytest

from nanochat_core.engine.batch import Batch, Failed
from nanochat_core.engine.reply import Done, Text
from nanochat_core.engine.sampling import Sampling
from nanochat_core.serve.answering import Answering, Busy, Closing
from tests.support.scripted import HI, Scripted, says
from tests.support.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
PROMPT = TOKENIZER.render_prompt(HI)
ENDLESS = 10_000
WAIT = 60


@pytest.fixture
def answering():
    made = []

    def make(script=lambda history: 5, max_batch=2, **changes):
        model = Scripted(tiny_model(**{"sequence_len": 50_000, **changes}), script)
        made.append(Answering(model, TOKENIZER, max_batch))
        return made[-1]

    yield make
    for each in made:
        each.close(WAIT)


def ask(answering, max_tokens=ENDLESS, stops=()):
    events = queue.SimpleQueue()
    row = answering.ask(PROMPT, max_tokens, Sampling(temperature=0.0), stops, events.put)
    return row, events


def rest(events):
    """All events up to the last one, as they come."""
    seen = []
    while not seen or not isinstance(seen[-1], Done | Failed):
        seen.append(events.get(timeout=WAIT))
    return seen


def test_every_caller_gets_its_own_reply(answering):
    served = answering(says(*b"abcdef"))
    asked = [ask(served, max_tokens=length) for length in (1, 2, 3, 4, 5)]
    for length, (_, events) in enumerate(asked, start=1):
        *texts, done = rest(events)
        assert texts == [Text(letter) for letter in "abcdef"[:length]]
        assert (done.reason, done.tokens) == ("length", length)
    assert served.open_requests() == 0


def test_a_caller_who_leaves_makes_room(answering):
    served = answering(max_batch=1)
    first, events = ask(served)
    events.get(timeout=WAIT)
    waiting, unheard = ask(served)
    _, answered = ask(served, max_tokens=2)
    served.cancel(waiting)
    served.cancel(first)
    served.cancel(first)
    assert rest(answered)[-1].reason == "length"
    assert unheard.empty()


def test_a_full_house_is_said(answering):
    served = answering(max_batch=1)
    rows = [ask(served)[0] for _ in range(9)]
    with pytest.raises(Busy, match="9 requests are being answered or waiting"):
        ask(served)
    served.cancel(rows[4])
    ask(served)


def test_a_failed_step_is_told_to_all_and_the_next_request_is_answered(answering, monkeypatch, capfd):
    served = answering(max_batch=2)
    _, first = ask(served)
    first.get(timeout=WAIT)
    write = Batch._write_tokens

    def fail(batch):
        monkeypatch.setattr(Batch, "_write_tokens", write)
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(Batch, "_write_tokens", fail)
    assert "out of memory" in str(rest(first)[-1].error)
    _, after = ask(served, max_tokens=3)
    assert rest(after)[-1].reason == "length"
    assert "CUDA out of memory" in capfd.readouterr().err


def test_the_end(answering):
    served = answering(max_batch=1)
    asked = [ask(served)[1] for _ in range(3)]
    asked[0].get(timeout=WAIT)
    assert served.close(WAIT)
    for events in asked:
        assert isinstance(rest(events)[-1].error, Closing)
    with pytest.raises(Closing, match="stopping"):
        ask(served)
