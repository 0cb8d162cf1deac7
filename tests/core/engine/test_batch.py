"""Requests that join and leave a batch: each gets what it would get alone, frees its place, and harms no other."""

import random

import pytest
import torch

from nanochat_core.engine import batch as batching
from nanochat_core.engine.batch import Batch, Failed
from nanochat_core.engine.engine import Engine
from nanochat_core.engine.reply import Done, Text, ToolCall
from nanochat_core.engine.sampling import Sampling
from tests.support.scripted import PYTHON, PYTHON_END, Scripted, calls_the_tool, prompts, says
from tests.support.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
GREEDY = Sampling(temperature=0.0)
HI = TOKENIZER.render_prompt([{"role": "user", "content": "Hi"}])


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch):
    """Caches that grow and prompts that are read in pieces, also with models as small as these."""
    monkeypatch.setattr(batching, "CACHE_STEP", 16)
    monkeypatch.setattr(batching, "PROMPT_TOKENS", 32)


def run(batch, arrivals=()):
    """Step until all is done; `arrivals` are (step, row). Returns the events of each row, in order."""
    events, waiting, step = {}, sorted(arrivals, key=lambda arrival: arrival[0]), 0
    while waiting or not batch.idle:
        while waiting and waiting[0][0] <= step:
            batch.add(waiting.pop(0)[1])
        for row, event in batch.step():
            events.setdefault(row, []).append(event)
        step += 1
        assert step < 5000
    return events


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, Text))


def batch_of(script=lambda history: None, max_rows=4, **changes):
    def once_read(history):  # a prompt that is read in pieces has no end at first
        return script(history) if TOKENIZER.special("<|assistant_start|>") in history else None

    return Batch(Scripted(tiny_model(**changes), once_read), TOKENIZER, max_rows)


@pytest.mark.parametrize(
    ("generation", "pattern"), [("A", "L"), ("B", "SL"), ("C", "SSL"), ("D", "SL"), ("E", "SL"), ("E", "L")]
)
def test_rows_that_come_and_go_equal_each_alone(generation, pattern):
    changes = {"window_pattern": pattern, "sequence_len": 200, "n_kv_head": 1}
    batch = batch_of(calls_the_tool, generation=generation, **changes)
    asked = prompts(14)
    alone = Engine(batch.model, TOKENIZER)
    expected = [alone.generate_batch([prompt], 30)[0] for prompt in asked]
    luck = random.Random(generation + pattern)
    rows = [batch.new_row(prompt, 30, GREEDY) for prompt in asked]
    events = run(batch, [(luck.randrange(60), row) for row in rows])
    assert [row.reply.tokens for row in rows] == expected
    assert any(isinstance(event, ToolCall) for row in rows for event in events[row])
    assert all(isinstance(events[row][-1], Done) for row in rows)
    assert max(map(len, asked)) > 128, "longer than the windows and the pieces in which prompts are read"


@pytest.mark.parametrize("generation", ["A", "E"])
def test_alone_it_takes_the_path_of_the_engine_bit_by_bit(generation):
    seen = []

    class Noted(Scripted):
        def __call__(self, ids, *, lengths=None, cache=None):
            logits = super().__call__(ids, lengths=lengths, cache=cache)
            seen[-1].append(logits[0, -1].clone())
            return logits

    model = Noted(tiny_model(generation), lambda history: None)
    seen.append([])
    [expected] = [list(Engine(model, TOKENIZER).stream([{"role": "user", "content": "Hi"}], 25, 0.0))]
    seen.append([])
    batch = Batch(model, TOKENIZER, 8)
    row = batch.new_row(HI, 25, GREEDY)
    assert [event.text for event in run(batch, [(0, row)])[row][:-1]] == expected
    assert len(seen[0]) == len(seen[1]) > 20
    assert all(torch.equal(one, other) for one, other in zip(*seen))


def test_each_row_has_its_own_settings():
    batch = batch_of(calls_the_tool)
    settings = [
        GREEDY,
        Sampling(1.0, 20, seed=3),
        Sampling(1.0, 20, seed=7),
        Sampling(0.5, 0, seed=3),
        Sampling(2.0, 50, seed=9, top_p=0.5),
    ]
    engine = Engine(batch.model, TOKENIZER)
    rows = [batch.new_row(HI, 10 + 5 * number, sampling) for number, sampling in enumerate(settings)]
    run(batch, [(3 * number, row) for number, row in enumerate(rows)])
    for row, sampling in list(zip(rows, settings))[:4]:
        expected = engine.generate_batch([HI], row.limit, sampling.temperature, sampling.top_k, sampling.seed)
        assert [row.reply.tokens] == expected
    again = batch.new_row(HI, rows[4].limit, settings[4])
    run(batch, [(0, again)])
    assert again.reply.tokens == rows[4].reply.tokens
    assert len({tuple(row.reply.tokens[:10]) for row in rows}) == 5


def test_a_newcomer_begins_before_the_others_end():
    batch = batch_of(says(*[5] * 60))
    first, second = (batch.new_row(HI, length, GREEDY) for length in (60, 5))
    batch.add(first)
    for _ in range(10):
        batch.step()
    batch.add(second)
    for _ in range(6):
        batch.step()
    assert second.finished
    assert not first.finished


def test_the_others_go_on_while_a_long_prompt_is_read():
    batch = batch_of(says(*[5] * 200), sequence_len=512)
    first = batch.new_row(HI, 100, GREEDY)
    late = batch.new_row([TOKENIZER.bos, *[7] * 299, TOKENIZER.special("<|assistant_start|>")], 5, GREEDY)
    batch.add(first)
    batch.step()
    batch.add(late)
    written = len(first.reply.tokens)
    steps = 0
    while not late.reply.tokens:
        batch.step()
        steps += 1
    assert steps == -(-301 // 32)
    assert len(first.reply.tokens) == written + steps


def test_many_newcomers_do_not_keep_the_others_waiting():
    batch = batch_of(says(*[5] * 200), max_rows=8, sequence_len=512)
    first = batch.new_row(HI, 100, GREEDY)
    batch.add(first)
    batch.step()
    prompt = [TOKENIZER.bos, *[7] * 18, TOKENIZER.special("<|assistant_start|>")]
    newcomers = [batch.new_row(prompt, 5, GREEDY) for _ in range(4)]
    for row in newcomers:
        batch.add(row)
    for begun in (1, 3, 4):  # 80 tokens in pieces of 32
        written = len(first.reply.tokens)
        batch.step()
        assert sum(bool(row.reply.tokens) for row in newcomers) == begun
        assert len(first.reply.tokens) == written + 1


def test_more_than_there_are_places_wait_their_turn():
    batch = batch_of(says(*[5] * 8), max_rows=2)
    rows = [batch.new_row(HI, 20, GREEDY) for _ in range(5)]
    order = []
    for row in rows:
        batch.add(row)
    while not batch.idle:
        ended = [row for row, event in batch.step() if isinstance(event, Done)]
        order += [rows.index(row) for row in ended]
        assert sum(bool(row.reply.tokens) and not row.finished for row in rows) <= 2
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("taken", range(4))
def test_a_removed_row_frees_its_place_and_the_others_do_not_notice(taken):
    batch = batch_of(calls_the_tool, max_rows=3, sequence_len=200)
    asked = prompts(5)
    engine = Engine(batch.model, TOKENIZER)
    rows = [batch.new_row(prompt, 30, GREEDY) for prompt in asked]
    for row in rows[:4]:
        batch.add(row)
    while not rows[2].reply.tokens:
        batch.step()
    assert not rows[3].reply.tokens, "the fourth waits"
    batch.remove(rows[taken])
    length = len(rows[taken].reply.tokens)
    events = run(batch, [(1, rows[4])])
    assert rows[taken] not in events
    assert len(rows[taken].reply.tokens) == length
    others = [number for number in range(5) if number != taken]
    assert [rows[number].reply.tokens for number in others] == [
        engine.generate_batch([asked[number]], 30)[0] for number in others
    ]


def test_a_removed_row_gives_its_place_to_the_next_step():
    batch = batch_of(says(*[5] * 100), max_rows=1)
    first, second = (batch.new_row(HI, 90, GREEDY) for _ in range(2))
    batch.add(first)
    batch.add(second)
    batch.step()
    batch.step()
    batch.remove(first)
    batch.step()
    assert second.reply.tokens
    batch.remove(second)
    batch.remove(second)
    assert batch.idle


def test_a_row_may_be_removed_while_its_prompt_is_read():
    batch = batch_of(sequence_len=512)
    row = batch.new_row([TOKENIZER.bos, *[7] * 200], 5, GREEDY)
    batch.add(row)
    assert batch.step() == []
    batch.remove(row)
    assert batch.idle
    assert batch.step() == []


def test_stop_strings_end_a_row_and_are_held_back():
    batch = batch_of(says(*b"one. Two, and END of it", *[5] * 50))
    row, other = batch.new_row(HI, 60, GREEDY, ("END", "zzz")), batch.new_row(HI, 20, GREEDY)
    events = run(batch, [(0, row), (0, other)])
    assert text_of(events[row]) == "one. Two, and "
    assert events[row][-1].reason == "stop"
    assert len(row.reply.tokens) == len("one. Two, and END")
    assert events[other][-1].reason == "length"


def test_a_stop_string_across_a_tool_call_and_one_that_does_not_come():
    own = [*b"It is <", PYTHON, *TOKENIZER.encode("2*7"), PYTHON_END, *b"end", *b"<en"]
    batch = batch_of(says(*own))
    row = batch.new_row(HI, 60, GREEDY, ("<end", "zzz"))
    other = batch.new_row(HI, 60, GREEDY, ("<endless",))
    events = run(batch, [(0, row), (0, other)])
    assert text_of(events[row]) == "It is "
    assert text_of(events[other]) == "It is <end<en"
    assert [event for event in events[other] if isinstance(event, ToolCall)] == [ToolCall("2*7", "14")]


def test_characters_are_whole_and_a_broken_one_is_replaced_at_the_end():
    batch = batch_of(says(*"日本🙂".encode(), *"🙂".encode()[:2]))
    row = batch.new_row(HI, 60, GREEDY)
    assert [event.text for event in run(batch, [(0, row)])[row][:-1]] == ["日", "本", "🙂", "\ufffd"]


def test_reasons_and_counts():
    batch = batch_of(says(*b"abc"), sequence_len=len(HI) + 2)
    stopped = batch_of(says(*b"abc"))
    for owner, limit, reason, tokens in ((stopped, 9, "stop", 3), (stopped, 3, "length", 3), (batch, 9, "context", 2)):
        row = owner.new_row(HI, limit, GREEDY)
        done = run(owner, [(0, row)])[row][-1]
        assert (done.reason, done.tokens) == (reason, tokens)
    at_once = batch_of(says())
    row = at_once.new_row(HI, 9, GREEDY)
    assert run(at_once, [(0, row)])[row] == [Done("stop", 0, 0, pytest.approx(0, abs=60))]


def test_a_reply_that_is_not_a_number_fails_alone():
    class Poisoned(Scripted):
        def __call__(self, ids, *, lengths=None, cache=None):
            logits = super().__call__(ids, lengths=lengths, cache=cache)
            for row in range(len(ids)):
                history = cache.ids[row, : cache.lengths[row]].tolist()
                if history.count(5) > 3 and 9 in history:
                    logits[row, -1, 0] = float("nan")
            return logits

    batch = Batch(Poisoned(tiny_model(), says(*[5] * 10)), TOKENIZER, 4)
    rows = [batch.new_row(prompt, 20, GREEDY) for prompt in (HI, [*HI[:1], 9, *HI[1:]], HI)]
    events = run(batch, [(0, row) for row in rows])
    assert [type(events[row][-1]) for row in rows] == [Done, Failed, Done]
    assert "NaN" in str(events[rows[1]][-1].error)


def test_no_memory_for_a_newcomer_harms_no_other():
    batch = batch_of(says(*[5] * 30), sequence_len=512)
    first, large, last = (batch.new_row(prompt, 20, GREEDY) for prompt in (HI, [7] * 400, HI))
    new_cache = batch._cache._new_cache

    def scarce(rows, capacity):
        if capacity > 300:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return new_cache(rows, capacity)

    batch._cache._new_cache = scarce
    events = run(batch, [(0, first), (4, large), (4, last)])
    assert isinstance(events[large][-1], Failed)
    assert [events[row][-1].reason for row in (first, last)] == ["length", "length"]


def test_an_idle_batch_holds_no_memory():
    batch = batch_of(says(*[5] * 40), max_rows=3)
    run(batch, [(0, batch.new_row(HI, 30, GREEDY)) for _ in range(5)])
    assert batch._cache.live is None
    assert batch._cache._whole is None
    batch.add(batch.new_row(HI, 30, GREEDY))
    batch.step()
    batch.clear()
    assert batch.idle
    assert batch._cache._whole is None
