"""Tokens of a data file: those of render_conversation, in one process or several, and a cache that never lies."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat_core import data_reader, data_survey, data_workers, token_cache
from nanochat_core.batches import Examples, Plan, render
from nanochat_core.config import FinetuneConfig
from nanochat_core.conversations import check, load_conversations
from nanochat_core.data_block import Wanted
from nanochat_core.data_survey import survey
from nanochat_core.rendering import Rendering
from nanochat_core.token_cache import cache_dir, tokenized
from nanochat_core.training_data import load_training_data
from tests.faulty_files import FAULTS, GOOD_FILES, WARNINGS
from tests.samples import GOOD, assistant, line, system, user
from tests.test_data_properties import conversations
from tests.tiny import tiny_tokenizer, write_conversations

SPECIAL_TEXTS = [
    *("", " ", "<|", "<", "|bos|>", "<|bos|>", "a<|assistant_end|>b", "\n\n", "two  blanks ", "é日本🙂", "a" * 300),
    *("ends with <", "<|python_start|>1<|python_end|>"),
]
PARTS = [
    {"type": kind, "text": text} for kind in ("text", "python", "python_output") for text in ("1+1", "<", "|bos|>")
]


def rendered(talks, limit):
    return [tiny_tokenizer().render_conversation(talk, limit) for talk in talks]


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


# The same findings in any number of blocks and processes


@pytest.fixture
def in_small_blocks(monkeypatch):
    monkeypatch.setattr(data_reader, "BLOCK_BYTES", 200)


def every_faulty_line() -> bytes:
    lines = [GOOD.encode()]
    for text, *_ in (*FAULTS.values(), *WARNINGS.values()):
        lines += [text if isinstance(text, bytes) else text.encode(), b"", GOOD.replace("hi", f"{len(lines)}").encode()]
    long = [line(user(f"{n} " * 60), assistant("long answer " * n)) for n in (1, 8, 30)]
    lines += [text.encode() for text in [*GOOD_FILES.values(), *long, long[1]]]
    return b"\n".join(lines) + b"\r\n\n\n"


def in_one_block(path, **wanted):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_reader, "BLOCK_BYTES", 1 << 30)
        return survey(path, Wanted(tiny_tokenizer(), 64, **wanted))


@pytest.mark.parametrize("text", [*WARNINGS.values(), *FAULTS.values()], ids=[*WARNINGS, *FAULTS])
def test_blocks_find_what_one_pass_finds(tmp_path, in_small_blocks, text):
    data = text[0] if isinstance(text[0], bytes) else text[0].encode()
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\r\n".join([GOOD.encode(), b"", data, b" ", GOOD.encode(), data, b"", b""]))
    assert check(path, tiny_tokenizer(), 64) == in_one_block(path) == in_one_block(path, tokens=True)


def test_workers_find_what_one_pass_finds(tmp_path, in_small_blocks, monkeypatch):
    path = tmp_path / "data.jsonl"
    path.write_bytes(every_faulty_line())
    alone = in_one_block(path, tokens=True)
    assert len(alone.counts) > 20
    monkeypatch.setattr(data_survey, "useful_workers", lambda size: 2)
    assert survey(path, Wanted(tiny_tokenizer(), 64, tokens=True)) == alone
    assert check(path, tiny_tokenizer(), 64) == alone
    assert in_one_block(path) == alone


def test_workers_are_worth_it_for_large_files_only(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert [data_workers.useful_workers(size << 20) for size in (1, 31, 32, 100, 10_000)] == [0, 0, 2, 6, 8]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert data_workers.useful_workers(10 << 30) == 0


def test_a_killed_worker_is_a_sentence_and_none_is_left(tmp_path, in_small_blocks, monkeypatch):
    path = write_conversations(tmp_path / "data.jsonl", 400)
    monkeypatch.setattr(data_survey, "useful_workers", lambda size: 2)
    started = []
    popen = subprocess.Popen

    def noted(*arguments, **named):
        started.append(popen(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(data_workers.subprocess, "Popen", noted)
    with pytest.raises(ValueError, match="ended too early, exit status -9"):
        survey(path, Wanted(tiny_tokenizer(), 64), lambda block: started[0].kill())
    with pytest.raises(KeyboardInterrupt):
        survey(path, Wanted(tiny_tokenizer(), 64), lambda block: (_ for _ in ()).throw(KeyboardInterrupt))
    assert len(started) == 4
    assert all(process.poll() is not None for process in started)


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    path = write_conversations(tmp_path / "data.jsonl", 400)
    code = f"""
import time
from nanochat_core import data_survey, data_reader, data_workers
from nanochat_core.data_block import Wanted
from tests.tiny import tiny_tokenizer
data_reader.BLOCK_BYTES = 200
data_survey.useful_workers = lambda size: 1
start = data_workers.subprocess.Popen
def noted(*arguments, **named):
    process = start(*arguments, **named)
    print(process.pid, flush=True)
    return process
data_workers.subprocess.Popen = noted
data_survey.survey({str(path)!r}, Wanted(tiny_tokenizer(), 64), lambda block: time.sleep(60))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    worker = int(parent.stdout.readline())
    time.sleep(1)
    parent.kill()
    parent.communicate()
    limit = time.monotonic() + 20
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < limit, "the worker outlives its parent"
        time.sleep(0.05)


# The cache


@pytest.fixture
def cached(monkeypatch, home):
    """Files of any size are cached."""
    monkeypatch.setattr(token_cache, "CACHED_BYTES", 0)
    return cache_dir()


def files(folder) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def read_whole(tokens) -> list[list[int]]:
    return [tokens.ids(number).tolist() for number in range(len(tokens))]


def test_the_second_time_nothing_is_tokenized(cached, tmp_path, monkeypatch):
    path = write_conversations(tmp_path / "data.jsonl", 30)
    first = tokenized(path, tiny_tokenizer(), 40)
    talks = load_conversations(path, tiny_tokenizer(), 40)
    assert read_whole(first) == [ids for ids, _ in rendered(talks, 40)]
    assert first.facts["supervised"].tolist() == [sum(mask[1:]) for _, mask in rendered(talks, 40)]
    assert first.facts["cut"].tolist() == [len(ids) > 40 for ids, _ in rendered(talks, 10**6)]
    assert first.source == token_cache.sha256_of(path)
    monkeypatch.setattr(token_cache, "survey", None)
    moved = path.rename(tmp_path / "moved.jsonl")
    second = tokenized(moved, tiny_tokenizer(), 40)
    assert read_whole(second) == read_whole(first)
    assert (second.facts == first.facts).all()
    assert len(files(cached)) == 1


@pytest.mark.parametrize("what", ["data", "limit", "tokenizer"])
def test_another_content_is_another_cache(cached, tmp_path, what):
    path, tokenizer, limit = write_conversations(tmp_path / "data.jsonl", 5), tiny_tokenizer(), 40
    tokenized(path, tokenizer, limit)
    if what == "data":
        path.write_text(path.read_text().replace("Word", "Worm"))
    elif what == "limit":
        limit = 41
    else:
        ranks = list(tokenizer._encoding._mergeable_ranks)
        ranks[300], ranks[301] = ranks[301], ranks[300]
        tokenizer = type(tokenizer).from_ranks(
            {piece: n for n, piece in enumerate(ranks)}, tokenizer._encoding._pat_str
        )
    found = read_whole(tokenized(path, tokenizer, limit))
    talks = load_conversations(path, tokenizer, limit)
    assert found == [tokenizer.render_conversation(talk, limit)[0] for talk in talks]
    assert len(files(cached)) == 2


def test_a_change_at_the_end_that_leaves_the_size_is_noticed(cached, tmp_path):
    path = write_conversations(tmp_path / "data.jsonl", 4000)
    before = read_whole(tokenized(path, tiny_tokenizer(), 100))
    data = path.read_bytes()
    path.write_bytes(data[:-8].replace(b"Word 3999", b"Worm 3999") + data[-8:])
    assert len(path.read_bytes()) == len(data)
    after = read_whole(tokenized(path, tiny_tokenizer(), 100))
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:600],
        lambda data: data + b"x",
        lambda data: b"x" + data[1:],
        lambda data: data[:700] + bytes([data[700] ^ 1]) + data[701:],
        lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        lambda data: data.replace(b"uint16", b"uint17", 1),
        lambda data: data.replace(b"[", b"{", 1),
        lambda data: b"nctokens[1]".ljust(1000),
    ],
)
def test_a_damaged_cache_is_made_again(cached, tmp_path, damage):
    path = write_conversations(tmp_path / "data.jsonl", 20)
    expected = read_whole(tokenized(path, tiny_tokenizer(), 40))
    [file] = files(cached)
    whole = file.read_bytes()
    assert damage(whole) != whole
    file.write_bytes(damage(whole))
    said = []
    assert read_whole(tokenized(path, tiny_tokenizer(), 40, said.append)) == expected
    assert said[0].startswith("The cache of the tokenized data is made again: it")
    assert file.read_bytes() == whole


def test_a_file_cut_short_while_in_use_is_a_sentence(cached, tmp_path):
    tokens = tokenized(write_conversations(tmp_path / "data.jsonl", 20), tiny_tokenizer(), 40)
    os.truncate(files(cached)[0], 520)
    with pytest.raises(ValueError, match="damaged while it was in use"):
        tokens.ids(19)


def test_a_full_disk_is_said_and_not_fatal(cached, tmp_path, monkeypatch):
    path = write_conversations(tmp_path / "data.jsonl", 20)
    expected = read_whole(tokenized(path, tiny_tokenizer(), 40))
    files(cached)[0].unlink()

    def refuse(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name, value in (("write_atomically", refuse), ("_free_bytes", lambda folder: 0)):
        with monkeypatch.context() as patch:
            patch.setattr(token_cache, name, value)
            said = []
            assert read_whole(tokenized(path, tiny_tokenizer(), 40, said.append)) == expected
            assert len(said) == 1
            assert "kept in memory" in said[0]
    assert files(cached) == []


def test_the_oldest_goes_and_left_overs_too(cached, tmp_path, monkeypatch):
    paths = [write_conversations(tmp_path / f"{count}.jsonl", count) for count in (20, 21, 22)]
    sizes = []
    for age, path in zip((50, 90), paths):
        tokenized(path, tiny_tokenizer(), 40)
        [new] = [file for file in files(cached) if file.stat().st_mtime > time.time() - 20]
        os.utime(new, (time.time() - age,) * 2)
        sizes.append(new)
    torn = cached / ".half.tmp"
    torn.write_bytes(b"x")
    os.utime(torn, (time.time() - 2 * 24 * 3600,) * 2)
    monkeypatch.setattr(token_cache, "LARGEST_CACHE", sizes[0].stat().st_size * 5 // 2)
    tokenized(paths[2], tiny_tokenizer(), 40)
    assert sizes[0] in files(cached)  # used 50 s ago
    assert sizes[1] not in files(cached)  # 90 s ago
    assert len(files(cached)) == 2


def test_a_rejected_file_leaves_nothing(cached, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(GOOD + "\n{broken\n")
    with pytest.raises(ValueError, match="Line 2"):
        tokenized(path, tiny_tokenizer(), 40)
    assert files(cached) == []


def test_a_small_file_is_not_cached(home, tmp_path):
    tokenized(write_conversations(tmp_path / "data.jsonl", 20), tiny_tokenizer(), 40)
    assert files(cache_dir()) == []


# What the training gets


@pytest.mark.parametrize("replay_ratio", [0.0, 0.4])
def test_the_training_gets_the_examples_and_the_order_that_it_always_got(cached, tmp_path, replay_ratio):
    path, replay = (write_conversations(tmp_path / f"{count}.jsonl", count) for count in (40, 13))
    config = FinetuneConfig(str(path), max_seq_len=30, replay_path=str(replay), replay_ratio=replay_ratio, seed=7)
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
    from nanochat_core import training_data

    monkeypatch.setattr(training_data, "_NOTE_SECONDS", -1)
    monkeypatch.setattr(training_data, "_SAY_SECONDS", -1)
    said, noted = [], []
    reading = training_data.Reading(said.append, lambda doing: noted.append(doing))
    tokenized(write_conversations(tmp_path / "data.jsonl", 12), tiny_tokenizer(), 64, progress=reading)
    assert said == noted == ["Checking and tokenizing the data: 100% of 0 MB."]
