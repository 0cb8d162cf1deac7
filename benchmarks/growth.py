"""How time and memory grow with the model, conversations' length and number, and processes, beside what theory says.

    python -m benchmarks.growth              draws docs/growth.png and prints the table
    python -m benchmarks.growth --small      the same in seconds, without drawing into docs/

Every point is measured in a process of its own, on one thread; a data file's on all cores. Memory is what a process
takes beyond what it had when its imports were done; of a data file the whole process, and none of its workers. Seconds
are processor time except for several processes, where the clock on the wall counts. The theory: a trained token costs 6
FLOPs per matrix parameter (the head counts for supervised tokens only) and 12 per pair of tokens in causal attention,
half of which are masked (Chowdhery et al., PaLM, arXiv 2204.02311, appendix B); a parameter costs 4 bytes, its gradient
4, Muon's momentum 4 or AdamW's two moments 8; a layer keeps about 20 vectors of n_embd for each token of a micro-batch,
the head three of the vocabulary's size for each supervised one; decoding a token reads every matrix once; a data file
takes time as it has conversations, and, beside what its process had before, a few bytes of memory for each.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import cpu_seconds, describe
from benchmarks.memory import forget_peak
from benchmarks.pairs import table
from benchmarks.tokenizing import run_ours, write_file
from benchmarks.workload import conversations, random_model
from nanochat_core.compute.ranks import joined_ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.data.chunk import FACTS
from nanochat_core.model.gpt import GPTConfig
from nanochat_core.model.loss import CHUNK_ELEMENTS
from nanochat_core.system.processes import peak_bytes
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.step import TrainingStep

VOCAB = 8192
SIZES = (2, 4, 6, 8)
"""Layers; 64 channels each."""
LENGTHS = (128, 256, 512, 1024)
COUNTS = (10**3, 10**4, 10**5, 10**6)
"""Conversations in a data file, a kilobyte each."""
CONVERSATION_BYTES = 3 * 8 + 1 + FACTS.itemsize
"""Memory that one takes: its line, its hash, the hash once more in order, a mark where it equals the next, its tokens'
facts."""
TOKENS = 8192
"""Tokens of a step, for every length."""
BATCH = 4
STEPS = 2
LEAST_SPAN = 8.0
"""How many times the lowest the highest value of a panel's vertical axis is: what does not grow is to look so."""
PICTURE = Path(__file__).parents[1] / "docs" / "growth.png"

Point = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        _measure_point(json.loads(options.point))
        return
    series = measure(options.small)
    print(f"{describe()}; each point a process of its own on one thread, data files on all cores\n")
    header = ["grows with", "measured at", "found", "theory", "grew", "by theory"]
    print(table(header, [_row(name, points) for name, points in series.items()]))
    if not options.small:
        draw(series, PICTURE)


def measure(small: bool) -> dict[str, list[Point]]:
    """For each series its points: at (what varies), found and theory (in the same unit)."""
    sizes, lengths, tokens, counts = ((1, 2), (32, 64), 256, (100, 200)) if small else (SIZES, LENGTHS, TOKENS, COUNTS)
    by_size = [_run({"layers": layers, "length": None, "tokens": tokens}) for layers in sizes]
    by_length = [_run({"layers": sizes[1], "length": length, "tokens": tokens}) for length in lengths]
    by_ranks = [_run({"layers": sizes[-1], "length": None, "tokens": tokens}, ranks) for ranks in (1, 2)]
    by_count = [_read_data(count) for count in counts]
    seconds, flops, theory = "seconds_per_token", "flops_per_token", "memory_theory"
    reply = "seconds_per_reply_token"
    return {
        "training (s per token), model size (parameters)": _series(by_size, "parameters", seconds, flops),
        "training memory (bytes), model size (parameters)": _series(by_size, "parameters", "memory", theory),
        "chat (s per token), model size (parameters)": _series(by_size, "parameters", reply, "decode_bytes"),
        "training (s per token), conversation length (tokens)": _series(by_length, "length", seconds, flops),
        "training memory (bytes), conversation length (tokens)": _series(by_length, "length", "memory", theory),
        "training (tokens/s), processes": _series(by_ranks, "ranks", "wall_tokens_per_second", "ranks"),
        "check and tokenize (s), conversations in the file": _series(by_count, "count", "seconds", "count"),
        "its memory without workers (bytes), conversations in the file": _series(by_count, "count", "memory", theory),
    }


def _series(points: list[Point], at: str, found: str, theory: str) -> list[Point]:
    return [{"at": point[at], "found": point[found], "theory": point[theory]} for point in points]


def growth(points: list[Point], key: str) -> float:
    """How many times as much the last point has as the first."""
    return points[-1][key] / points[0][key]


def _row(name: str, points: list[Point]) -> list[str]:
    listed = [", ".join(_short(point[key]) for point in points) for key in ("at", "found", "theory")]
    return [name, *listed, *(f"{growth(points, key):.2f}x" for key in ("found", "theory"))]


def _short(value: float) -> str:
    if value == 0:
        return "0"
    power = max(-2, min(4, math.floor(math.log10(abs(value)) / 3)))
    unit = {-2: "u", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}[power]
    return f"{value / 1000**power:.3g}{unit}"


def _run(point: Point, ranks: int = 1) -> Point:
    """Measure a point in as many processes of its own."""
    command = [sys.executable, "-m"]
    if ranks > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", "-m"]
    command += ["benchmarks.growth", "--point", json.dumps(point)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(answer.stdout.splitlines()[-1])


def _read_data(count: int) -> Point:
    """Check and tokenize a file of `count` conversations on all cores."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_file(Path(folder) / "data.jsonl", count)
        found = run_ours(path, len(os.sched_getaffinity(0)))
    theory = found["before"] + CONVERSATION_BYTES * count
    return {"count": count, "seconds": found["cpu"], "memory": found["parent"], "memory_theory": theory}


def _measure_point(point: Point) -> None:
    layers, width = point["layers"], 64 * point["layers"]
    heads = max(1, width // 128)
    config = GPTConfig(max(LENGTHS), VOCAB, layers, heads, heads, width)
    examples = _examples(config, point["length"], point["tokens"])
    before = forget_peak()
    with joined_ranks("cpu") as ranks:
        model = random_model(config)
        step = TrainingStep(model, build_mode("plain", model, FinetuneConfig("-", matrix_lr=1e-4), ranks), ranks, BATCH)
        step(examples)
        walls, seconds = [], []
        for _ in range(STEPS):
            ranks.wait()
            started = time.perf_counter()
            seconds.append(cpu_seconds(lambda: step(examples)))
            walls.append(time.perf_counter() - started)
        memory = peak_bytes() - before
        tokens = sum(example.inputs for example in examples)
        found = {
            "ranks": ranks.world,
            "length": point["length"],
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds_per_token": min(seconds) / tokens,
            "wall_tokens_per_second": tokens / min(walls),
            "flops_per_token": flops(config, examples) / tokens,
            "memory": memory,
            "memory_theory": state_bytes(model) + activation_bytes(config, examples),
            "decode_bytes": 4 * (12 * layers * width**2 + VOCAB * width),
            "seconds_per_reply_token": _decoding(model),
        }
        if ranks.is_first:
            print(json.dumps(found), flush=True)


def flops(config: GPTConfig, examples: list[Example]) -> float:
    """FLOPs of a training step over `examples`."""
    matrices = 12 * config.n_layer * config.n_embd**2
    return sum(
        6 * (matrices * e.inputs + config.vocab_size * config.n_embd * e.supervised)
        + 6 * config.n_layer * config.n_embd * e.inputs**2
        for e in examples
    )


def state_bytes(model: torch.nn.Module) -> int:
    """Bytes of weights, gradients and optimizer state in fp32."""
    return sum(
        parameter.numel() * (12 if name.startswith("transformer.h.") else 16)
        for name, parameter in model.named_parameters()
    )


def activation_bytes(config: GPTConfig, examples: list[Example]) -> int:
    """Bytes that the largest micro-batch keeps in fp32 for its backward pass."""
    largest = sorted(examples, key=lambda example: example.inputs)[-BATCH:]
    layers = 20 * config.n_layer * config.n_embd * sum(example.inputs for example in largest)
    head = 3 * min(config.vocab_size * sum(example.supervised for example in largest), CHUNK_ELEMENTS)
    return 4 * (layers + head)


def _examples(config: GPTConfig, length: int | None, tokens: int) -> list[Example]:
    """About `tokens` tokens: conversations as people have them, or all of one `length` and trained on."""
    if length is None:
        return conversations(config, max(2, tokens // 166))
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (tokens // length, length + 1), dtype=np.int32)
    return [Example(row, np.ones(length + 1, bool), index) for index, row in enumerate(ids)]


def _decoding(model: torch.nn.Module, tokens: int = 32) -> float:
    """Seconds of processor time for each token of a reply."""
    model.eval().requires_grad_(requires_grad=False)
    cache, last = model.new_cache(1, 256), torch.tensor([[1]])
    model(last, cache=cache)

    def reply() -> None:
        for _ in range(tokens):
            model(last, cache=cache)

    reply()
    return min(cpu_seconds(reply) for _ in range(3)) / tokens


def draw(series: dict[str, list[Point]], path: Path) -> None:
    """One panel a series: what was found, and the theory through its first point."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    columns = 4
    figure = Figure(figsize=(3.6 * columns, 3.2 * -(-len(series) // columns)), layout="constrained")
    axes = figure.subplots(-(-len(series) // columns), columns, squeeze=False).flat
    for axis, (name, points) in zip(axes, series.items()):
        at = [point["at"] for point in points]
        scale = points[0]["found"] / points[0]["theory"]
        found, theory = [point["found"] for point in points], [scale * point["theory"] for point in points]
        axis.loglog(at, found, "o-", color="#4f46e5", label="measured")
        axis.loglog(at, theory, "--", color="#6b7280", label="theory")
        least, most = min(found + theory), max(found + theory)
        margin = max(1.3, LEAST_SPAN / (most / least)) ** 0.5
        axis.set_ylim(least / margin, most * margin)
        axis.set_title(name.replace(", ", "\n", 1), fontsize=9)
        axis.set_xticks(at, [_short(value) for value in at])
        axis.minorticks_off()
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
