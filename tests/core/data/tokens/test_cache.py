"""The cache of a data file's tokens never lies: other contents, damage, a full disk, and what goes first."""

import errno
import os
import time
from pathlib import Path

import pytest

from nanochat_core.data.conversations import load_conversations
from nanochat_core.data.tokens import cache
from nanochat_core.data.tokens.cache import cache_dir, tokenized
from tests.support.samples import GOOD
from tests.support.tiny import rendered, tiny_tokenizer, write_conversations


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
    assert first.source == cache.sha256_of(path)
    monkeypatch.setattr(cache, "survey", None)
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
            patch.setattr(cache, name, value)
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
    monkeypatch.setattr(cache, "LARGEST_CACHE", sizes[0].stat().st_size * 5 // 2)
    tokenized(paths[2], tiny_tokenizer(), 40)
    assert sizes[0] in files(cached)  # used 50 s ago
    assert sizes[1] not in files(cached)  # 90 s ago
    assert len(files(cached)) == 2


def test_a_file_that_another_process_renames_meanwhile_is_passed_over(cached, tmp_path, monkeypatch):
    cached.mkdir(parents=True)
    writing = cached / ".half.tmp"
    writing.write_bytes(b"x")
    look = Path.stat

    def renamed_before(path, **how):
        found = look(path, **how)
        if path == writing:
            os.replace(writing, cached / "whole")
        return found

    monkeypatch.setattr(Path, "stat", renamed_before)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", lambda folder: iter([writing, writing, *folder.glob("*.tokens")]))
        tokenized(write_conversations(tmp_path / "data.jsonl", 20), tiny_tokenizer(), 40)
    assert (cached / "whole").exists()


def test_a_rejected_file_leaves_nothing(cached, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(GOOD + "\n{broken\n")
    with pytest.raises(ValueError, match="Line 2"):
        tokenized(path, tiny_tokenizer(), 40)
    assert files(cached) == []


def test_a_small_file_is_not_cached(home, tmp_path):
    tokenized(write_conversations(tmp_path / "data.jsonl", 20), tiny_tokenizer(), 40)
    assert files(cache_dir()) == []
