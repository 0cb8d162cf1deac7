"""Finetuning steps, optimizer included, beside those of other programs, on the same weights, data and threads.

    python -m benchmarks.training              d4 and d8 (benchmarks/workload.py), fp32 and bf16
    python -m benchmarks.training --small      a tiny model, in seconds, to see that it runs

A step takes 32 conversations in micro-batches of 4. Each loop (benchmarks/training_peers.py) runs in a process of its
own, so that no setting of one changes another, and they take turns of a step. Figures are useful tokens per second of
processor time: padding does not count. A share of the machine's limit is useful floating-point operations over the
rate of a square matrix product in the same precision and turn. They are 6 for each token and weight of the blocks'
matrices, and 6 for each supervised token and weight of the head; attention's products, the optimizer's and
everything else count nothing, so that nobody reaches 100%. Before any figure counts, each loop's first loss and
gradient norm are checked: equal to the usual loop's in fp32 to 1e-5, in bf16 to 2%.

d8's turn measures 8 conversations and the optimizer; the time of 32 is 4 times the former and once the latter. TRL's
packing is measured with all 32, because what it packs into a row, and so its work, depends on how many there are.
"""

import argparse
import contextlib
import multiprocessing
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from benchmarks.machine import describe, gemm_rate
from benchmarks.pairs import ratio, table, take_turns
from benchmarks.training_peers import LOOPS, Step, Task
from benchmarks.workload import SHAPES, TINY, conversations
from nanochat_core.model.gpt import GPTConfig

EXAMPLES = 32
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2}


def measured(name: str, loop: str) -> int:
    """Conversations whose computation a turn of the loop measures."""
    return 8 if name == "d8" and "packing" not in loop else EXAMPLES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--shapes", nargs="+", choices=["d4", "d8"], default=["d4", "d8"])
    parser.add_argument("--loops", nargs="+", choices=list(LOOPS), default=list(LOOPS))
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    print(describe())
    for name in ["tiny"] if options.small else options.shapes:
        print(f"\n{name}\n", flush=True)
        print(measure(name, options.loops, options.precisions, 1 if options.small else options.turns), flush=True)


def measure(name: str, loops: list[str], precisions: list[str], turns: int) -> str:
    """The table of a model's shape. ValueError when a loop's loss or gradient is not that of the first loop."""
    config = TINY if name == "tiny" else SHAPES[name]
    expected = _expected(name, config, loops, precisions[0])
    rows, limits = [], []
    for precision in precisions:  # one after the other: all loops of d8 at once would not fit into 24 GB
        others = [(loop, precision) for loop in loops if loop != "ours"]
        ours = [("ours", each) for each in precisions if "ours" in loops]
        figures = _take_turns(name, config, [*others, *ours], precision, expected, turns)
        rows += _rows(name, config, figures, loops, precision)
        limits.append(f"{precision} {statistics.median(figures['gemm', precision]) / 1e9:.0f} GFLOP/s")
    whole = _scale("whole", config, "")
    workload = f"{whole.tokens:,} tokens per step, {whole.supervised / whole.tokens:.0%} supervised"
    header = ["loop", "useful tokens/s", "of the GEMM rate", "optimizer's share"]
    header += [f"ours in {precision} is" for precision in precisions if "ours" in loops]
    told = f"Losses and gradient norms are equal.\n\n{table(header, rows)}"
    return f"{told}\n\nGEMM: {', '.join(limits)}; {workload}"


Key = tuple[str, str]
"""A loop and its precision; or "gemm" and that of matrix products."""


def _take_turns(
    name: str, config: GPTConfig, keys: list[Key], precision: str, expected: dict[str, Step], turns: int
) -> dict[Key, list]:
    """The steps of these loops, and FLOP/s of products in `precision`. ValueError as in `measure`."""
    with ExitStack() as open_loops:
        variants: dict[Key, Callable] = {
            key: open_loops.enter_context(Loop(key[0], config, measured(name, key[0]), PRECISIONS[key[1]]))
            for key in keys
        }
        check_equal({key: ask() for key, ask in variants.items()}, expected)
        variants["gemm", precision] = lambda: gemm_rate(PRECISIONS[precision])
        return take_turns(variants, turns)


class Loop:
    """A loop in a process of its own, which takes a step when it is called; for a `with` block."""

    def __init__(self, loop: str, config: GPTConfig, measured: int, dtype: torch.dtype):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, loop, config, measured, dtype), daemon=True)
        self.other = other

    def __enter__(self) -> Callable[[], Step]:
        self.process.start()
        self.other.close()  # so that either side notices when the other has gone
        return self._step

    def _step(self) -> Step:
        self.connection.send(None)
        return Step(*self.connection.recv())

    def __exit__(self, *_) -> None:
        self.connection.close()
        self.process.join()


def _serve(connection: Connection, loop: str, config: GPTConfig, measured: int, dtype: torch.dtype) -> None:
    def tell(step: Step) -> None:
        connection.send(tuple(step))
        connection.recv()

    with contextlib.suppress(EOFError):  # whoever asked has gone
        connection.recv()
        LOOPS[loop](Task(config, conversations(config, measured), dtype), tell)


def _expected(name: str, config: GPTConfig, loops: list[str], precision: str) -> dict[str, Step]:
    """For each loop what it must find: the first loop's step, or over other conversations the last one's."""
    usual, found = measured(name, loops[0]), {}
    for count in {measured(name, loop) for loop in loops}:
        with Loop(loops[0] if count == usual else loops[-1], config, count, PRECISIONS[precision]) as ask:
            found[count] = ask()
    return {loop: found[measured(name, loop)] for loop in loops}


def check_equal(first: dict[tuple[str, str], Step], expected: dict[str, Step]) -> None:
    """ValueError unless the first losses and gradient norms of all loops and precisions are those that are expected."""
    for (loop, precision), step in first.items():
        for what in ("loss", "norm"):
            mine, theirs = getattr(step, what), getattr(expected[loop], what)
            if not abs(mine - theirs) <= TOLERANCE[precision] * abs(theirs):
                raise ValueError(f"{loop} in {precision} has {what} {mine}; {theirs} was expected.")


class Scale(NamedTuple):
    """What the measured conversations of a loop stand for."""

    tokens: int
    supervised: int
    steps: float
    """How often they make up a whole step."""

    def seconds(self, step: Step) -> float:
        return step.computing * self.steps + step.updating


def _scale(name: str, config: GPTConfig, loop: str) -> Scale:
    examples = conversations(config, measured(name, loop))
    supervised = sum(example.supervised for example in examples)
    return Scale(sum(example.inputs for example in examples), supervised, EXAMPLES / len(examples))


def _rows(name: str, config: GPTConfig, figures: dict[Key, list], loops: list[str], precision: str) -> list[list[str]]:
    """The rows of the loops in a precision, beside ours in each."""
    scales = {loop: _scale(name, config, loop) for loop in loops}
    matrices, head = 12 * config.n_layer * config.n_embd**2, config.vocab_size * config.n_embd
    rates = {
        key: [scales[key[0]].tokens * scales[key[0]].steps / scales[key[0]].seconds(step) for step in found]
        for key, found in figures.items()
        if key[0] != "gemm"
    }
    rows = []
    for loop in loops:
        mine, scale = rates[loop, precision], scales[loop]
        flops_per_token = 6 * (matrices + head * scale.supervised / scale.tokens)
        shares = [rate * flops_per_token / limit for rate, limit in zip(mine, figures["gemm", precision])]
        updating = statistics.median(step.updating / scale.seconds(step) for step in figures[loop, precision])
        row = [f"{loop}, {precision}", f"{statistics.median(mine):,.0f}", f"{statistics.median(shares):.0%}"]
        rows.append([*row, f"{updating:.1%}", *(str(ratio(rates[key], mine)) for key in rates if key[0] == "ours")])
    return rows


if __name__ == "__main__":
    main()
