"""Checking and tokenizing a data file against tiktoken's own rate; memory and time as the file grows; the second start.

    python -m benchmarks.tokenizing                             up to 200,000 conversations
    python -m benchmarks.tokenizing --conversations 1000000     up to a file of 1 GB
    python -m benchmarks.tokenizing --small                     what CI runs

tiktoken's own rate is `encode_ordinary` over the text of each message, one after the other, in as many processes as
cores, the texts already in memory. Ours reads the file, judges every line as `check` does, tokenizes, writes the cache.
Texts are slices of the project's own, its words shuffled, with lognormal lengths. Every measurement is a fresh process.
Two tokenizers: the starter's of 4,096 ids, and one with nanochat's splitting pattern, made of the file's words.
"""

import argparse
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.memory import forget_peak
from benchmarks.pairs import ratio, table, take_turns
from nanochat_core.data import workers as data_workers
from nanochat_core.data.tokens import cache as token_cache
from nanochat_core.data.tokens.cache import tokenized
from nanochat_core.system.processes import peak_bytes
from nanochat_core.tokenizer.compiled import NANOCHAT_PATTERN
from nanochat_core.tokenizer.pickle_file import SPECIAL_TOKENS
from nanochat_core.tokenizer.rendering import Rendering
from nanochat_core.tokenizer.tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent
_TOKENIZER = "NANOCHAT_STUDIO_BENCHMARK_TOKENIZER"
"""Environment variable: its folder, for the processes that are started."""
MEDIAN_CHARACTERS, SPREAD = 720, 0.8
"""The length of a conversation, lognormal."""
MAX_SEQ_LEN = 2048
VOCABULARY = 65_536 - len(SPECIAL_TOKENS)
"""d32's; the words that there are may be fewer."""
COMPARED = 40_000
"""Conversations in the file on which the rates are compared in turns: 46 MB, worth two processes."""


def main() -> None:
    options = _options()
    if options.peer is not None:
        print(json.dumps(peer(options.file, *options.peer)))
        return
    if options.ours:
        print(json.dumps(ours(options.file)))
        return
    if options.tokenizer:
        os.environ[_TOKENIZER] = os.path.abspath(options.tokenizer)
    largest = 3000 if options.small else options.conversations
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        compared = write_file(Path(folder) / "compared.jsonl", min(COMPARED, largest))
        tokenizers = [os.environ.get(_TOKENIZER, str(ROOT / "starter"))]
        if not options.tokenizer:
            tokenizers.append(str(write_tokenizer(Path(folder), compared)))
        for tokenizer in reversed(tokenizers):  # the growth below is the first one's
            os.environ[_TOKENIZER] = tokenizer
            print(f"{_cores()} cores, a tokenizer of {_tokenizer().vocab_size:,} ids\n")
            print(f"{check_equal(compared)} conversations: the ids and masks of render_conversation\n")
            print(compare(compared, 1 if options.small else options.turns), end="\n\n")
        print(grow(Path(folder), [n for n in (10**3, 10**4, 10**5, 10**6) if n < largest] + [largest]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=200_000, help="in the largest file")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--tokenizer", help="folder with a tokenizer.pkl; default: the starter's")
    parser.add_argument("--folder", help="where the files are made; default: the system's temporary folder")
    for name in ("--peer", "--ours", "--file"):  # for the processes that it starts
        kind = {"nargs": 2, "type": int} if name == "--peer" else {"action": "store_true"} if name == "--ours" else {}
        parser.add_argument(name, help=argparse.SUPPRESS, **kind)
    return parser.parse_args()


def write_file(path: Path, count: int, seed: int = 0) -> Path:
    """A file of `count` conversations of one to three questions and answers, a kilobyte on average."""
    chance = random.Random(seed)
    words = re.findall(r"\S+", "".join((ROOT / name).read_text("utf-8") for name in ("README.md", "data/README.md")))
    for row in (ROOT / "data" / "example_data.jsonl").read_text("utf-8").splitlines():
        words += [word for message in json.loads(row)["messages"] for word in str(message["content"]).split()]
    words = [word for word in words if "<|" not in word] * 40
    chance.shuffle(words)
    pool = " ".join(words)

    def text(size: float) -> str:
        start = pool.index(" ", chance.randrange(len(pool) - 60_000)) + 1
        return pool[start : pool.index(" ", start + min(int(size), 50_000))]

    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            turns = chance.choice((1, 1, 2, 3))
            size = chance.lognormvariate(0.0, SPREAD) * MEDIAN_CHARACTERS / turns
            roles = (("user", 0.35), ("assistant", 0.65)) * turns
            messages = [{"role": role, "content": text(size * share)} for role, share in roles]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return path


def write_tokenizer(folder: Path, path: Path) -> Path:
    """A tokenizer with nanochat's splitting pattern: bytes, then the beginnings of the file's words, common ones first.

    That is not how a vocabulary is trained, but as with a large one most words are one token. `folder`, where it lies.
    """
    words = Counter(word for text in islice(texts_of(path), 20_000) for word in re.findall(r" ?\w+| ?[^\w\s]+", text))
    pieces = dict.fromkeys(bytes([byte]) for byte in range(256))
    for word, _ in words.most_common():
        data = word.encode()
        pieces.update(dict.fromkeys(data[:end] for end in range(2, min(len(data), 40) + 1)))
    ranks = {piece: rank for rank, piece in enumerate(islice(pieces, VOCABULARY))}
    Tokenizer.from_ranks(ranks, NANOCHAT_PATTERN).save(folder / "tokenizer.pkl")
    return folder


def check_equal(path: Path, count: int = 1000) -> int:
    """Compare the first `count` conversations with render_conversation; how many there were."""
    tokenizer, lines = _tokenizer(), path.read_bytes().splitlines()[:count]
    token_cache.CACHED_BYTES = 1 << 40  # nothing is to be left behind
    tokens, rendering = tokenized(path, tokenizer, MAX_SEQ_LEN), Rendering(tokenizer)
    for number, line in enumerate(lines):
        ids, mask = tokenizer.render_conversation(json.loads(line), MAX_SEQ_LEN)
        assert np.array_equal(tokens.ids(number), ids), number
        assert np.array_equal(rendering.mask(tokens.ids(number)), mask), number
    return len(lines)


def peer(path: str, part: int, parts: int) -> dict[str, float]:
    """tiktoken alone on every `parts`-th conversation: its seconds."""
    encoding, wall, cpu = _tokenizer()._encoding, 0.0, 0.0
    mine = texts_of(Path(path), part, parts)
    while texts := list(islice(mine, 10_000)):
        started, began = time.perf_counter(), time.process_time()
        for text in texts:
            encoding.encode_ordinary(text)
        wall, cpu = wall + time.perf_counter() - started, cpu + time.process_time() - began
    return {"wall": wall, "cpu": cpu}


def texts_of(path: Path, part: int = 0, parts: int = 1) -> Iterator[str]:
    """The text of each message of every `parts`-th conversation."""
    with open(path, "rb") as file:
        for line in islice(file, part, None, parts):
            for message in json.loads(line)["messages"]:
                yield message["content"]


def ours(path: str) -> dict[str, float]:
    """Check, tokenize and cache: seconds of this process and all that it starts, and bytes of memory.

    "before" is what this process had when that began, "parent" the most it had since, "worker" the most that one of its
    workers had; where there are none, it is left out.
    """
    tokenizer, before = _tokenizer(), forget_peak()
    started, began = time.perf_counter(), time.process_time()
    with _workers_measured() as workers:
        tokens = tokenized(path, tokenizer, MAX_SEQ_LEN, say=lambda text: print(text, file=sys.stderr))
    found = {"wall": time.perf_counter() - started, "cpu": time.process_time() - began}
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    found["cpu"] += children.ru_utime + children.ru_stime
    tokens.ids(len(tokens) - 1)
    found |= {"worker": max(workers)} if workers else {}
    return {**found, "before": before, "parent": peak_bytes()}


@contextmanager
def _workers_measured() -> Iterator[list[float]]:
    """Filled with the peak of each worker, looked at right before it is ended."""
    peaks, end = [], data_workers._Worker.end

    def measured(worker: data_workers._Worker) -> None:
        peaks.append(peak_bytes(worker._process.pid))
        end(worker)

    data_workers._Worker.end = measured
    try:
        yield peaks
    finally:
        data_workers._Worker.end = end


def compare(path: Path, turns: int) -> str:
    """Ours against tiktoken's own rate, on one core and on all."""
    rows = []
    for cores in sorted({1, _cores()}):
        turn = partial(_turn, path, cores)
        found = take_turns({"tiktoken": partial(turn, run_peer), "ours": partial(turn, run_ours)}, turns)
        size = sum(len(text.encode()) for text in texts_of(path))
        for clock in ("cpu", "wall"):
            theirs, own = ([size / one[clock] / 1e6 for one in found[name]] for name in ("tiktoken", "ours"))
            middle = [f"{statistics.median(rates):.1f}" for rates in (theirs, own)]
            rows.append([str(cores), f"MB of text per second of {clock} time", *middle, str(ratio(own, theirs))])
    return table(["cores", "rate", "tiktoken alone", "check, tokenize, cache", "ours / tiktoken"], rows)


def _turn(path: Path, cores: int, run: Callable[[Path, int], dict[str, float]]) -> dict[str, float]:
    return run(path, cores)


def run_peer(path: Path, cores: int) -> dict[str, float]:
    """tiktoken alone in `cores` processes at once."""
    processes = [_start(["--peer", str(part), str(cores)], path, cores) for part in range(cores)]
    found = [_result(process) for process in processes]
    return {"wall": max(one["wall"] for one in found), "cpu": sum(one["cpu"] for one in found)}


def run_ours(path: Path, cores: int, home: str | None = None) -> dict[str, float]:
    """Ours on `cores` cores, its cache in `home`, or in a folder that is removed."""
    if home is None:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            return _result(_start(["--ours"], path, cores, folder))
    return _result(_start(["--ours"], path, cores, home))


def grow(folder: Path, counts: list[int]) -> str:
    """First and second start on all cores, for files of these numbers of conversations."""
    rows = []
    for count in counts:
        path, home = write_file(folder / f"{count}.jsonl", count), folder / f"home{count}"
        first, second = (run_ours(path, _cores(), str(home)) for _ in range(2))
        workers = f"{first['worker'] / 1e6:.0f}" if "worker" in first else "none"
        cache = sum(file.stat().st_size for file in home.rglob("*.tokens"))
        rows.append([f"{count:,}", f"{path.stat().st_size / 1e6:,.1f}", f"{first['wall']:.2f}", f"{first['cpu']:.2f}"])
        rows[-1] += [f"{first['before'] / 1e6:.0f}", f"{first['parent'] / 1e6:.0f}", workers]
        rows[-1] += [f"{cache / 1e6:,.1f}", f"{second['wall']:.2f}", f"{second['parent'] / 1e6:.0f}"]
        path.unlink()
    header = ["conversations", "MB", "first start, s", "its CPU, s", "MB of memory before", "peak MB, parent"]
    return table([*header, "peak MB, a worker", "cache, MB", "second start, s", "its peak MB"], rows)


def _start(arguments: list[str], path: Path, cores: int, home: str | None = None) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.tokenizing", *arguments, "--file", str(path)]
    environment = {**os.environ, **({"NANOCHAT_STUDIO_HOME": home} if home else {})}
    keep = {"preexec_fn": lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env=environment, **(keep if hasattr(os, "sched_setaffinity") else {})
    )


def _result(process: subprocess.Popen) -> dict[str, float]:
    output, _ = process.communicate()
    assert process.returncode == 0, process.args
    return json.loads(output)


def _tokenizer() -> Tokenizer:
    return Tokenizer.from_directory(os.environ.get(_TOKENIZER, ROOT / "starter"))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    main()
