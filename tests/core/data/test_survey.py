"""The same findings in a data file in any number of blocks and processes, none of which is left over."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nanochat_core.data import reader, workers
from nanochat_core.data import survey as data_survey
from nanochat_core.data.chunk import Wanted
from nanochat_core.data.conversations import check
from nanochat_core.data.survey import survey
from nanochat_core.tokenizer.compiled import NANOCHAT_PATTERN
from nanochat_core.tokenizer.tokenizer import Tokenizer
from tests.support.faulty_files import FAULTS, GOOD_FILES, WARNINGS
from tests.support.samples import GOOD, assistant, line, user
from tests.support.tiny import tiny_ranks, tiny_tokenizer, write_conversations

pytestmark = pytest.mark.processes


@pytest.fixture
def in_small_blocks(monkeypatch):
    monkeypatch.setattr(reader, "BLOCK_BYTES", 200)


def every_faulty_line() -> bytes:
    lines = [GOOD.encode()]
    for text, *_ in (*FAULTS.values(), *WARNINGS.values()):
        lines += [text if isinstance(text, bytes) else text.encode(), b"", GOOD.replace("hi", f"{len(lines)}").encode()]
    long = [line(user(f"{n} " * 60), assistant("long answer " * n)) for n in (1, 8, 30)]
    lines += [text.encode() for text in [*GOOD_FILES.values(), *long, long[1]]]
    return b"\n".join(lines) + b"\r\n\n\n"


def in_one_block(path, **wanted):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "BLOCK_BYTES", 1 << 30)
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


@pytest.mark.parametrize(("pattern", "asked"), [(NANOCHAT_PATTERN, ["tokenize"]), (r"\s+|\S+", [])])
def test_compiled_code_is_asked_for_where_it_knows_the_pattern(tmp_path, monkeypatch, pattern, asked):
    path, names = write_conversations(tmp_path / "data.jsonl", 20), []
    monkeypatch.setattr(data_survey, "useful_workers", lambda size: 2)
    monkeypatch.setattr(workers, "library", names.append)
    tokenizer = Tokenizer.from_ranks(tiny_ranks(), pattern)
    assert survey(path, Wanted(tokenizer, 64, tokens=True)).conversations == 20
    assert names == asked


def test_the_missing_compiler_is_said_once_and_not_by_every_worker(tmp_path):
    path = tmp_path / "data.jsonl"
    lines = [line(user(f"{number}"), assistant("word " * 4_000)) for number in range(40)]
    path.write_text("\n".join(lines))  # enough for each worker to look for compiled code
    code = f"""
from nanochat_core.data import reader, survey
from nanochat_core.data.chunk import Wanted
from tests.support.tiny import tiny_tokenizer
reader.BLOCK_BYTES = 100_000
survey.useful_workers = lambda size: 2
print(survey.survey({str(path)!r}, Wanted(tiny_tokenizer(), 64, tokens=True)).verdict)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PATH": str(tmp_path), "CC": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "accept_with_warning\n"
    assert done.stderr.count("no C compiler was found") == 1
    assert done.stderr.count("\n") == 1


def test_workers_are_worth_it_for_large_files_only(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert [workers.useful_workers(size << 20) for size in (1, 31, 32, 100, 10_000)] == [0, 0, 2, 6, 8]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert workers.useful_workers(10 << 30) == 0


def test_a_killed_worker_is_a_sentence_and_none_is_left(tmp_path, in_small_blocks, monkeypatch):
    path = write_conversations(tmp_path / "data.jsonl", 400)
    monkeypatch.setattr(data_survey, "useful_workers", lambda size: 2)
    started = []
    start = workers.spawn

    def noted(*arguments, **named):
        started.append(start(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(workers, "library", lambda name: None)  # which starts a compiler
    monkeypatch.setattr(workers, "spawn", noted)
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
from nanochat_core.data import reader, survey, workers
from nanochat_core.data.chunk import Wanted
from tests.support.tiny import tiny_tokenizer
reader.BLOCK_BYTES = 200
survey.useful_workers = lambda size: 1
start = workers.spawn
def noted(*arguments, **named):
    process = start(*arguments, **named)
    print(process.pid, flush=True)
    return process
workers.spawn = noted
survey.survey({str(path)!r}, Wanted(tiny_tokenizer(), 64), lambda block: time.sleep(60))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    worker = int(parent.stdout.readline())
    time.sleep(1)
    parent.kill()
    parent.communicate()
    limit = time.monotonic() + 20
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < limit, "the worker outlives its parent"
        time.sleep(0.05)
