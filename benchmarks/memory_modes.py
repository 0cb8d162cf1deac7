"""Peak memory and time of a training step in each memory mode on a CPU, beside the plan.

    python -m benchmarks.memory_modes              memory of d12's shape, times of d4's
    python -m benchmarks.memory_modes --small      small shapes, in seconds, to see that it runs

Random weights and conversations. Memory: each mode in a process of its own, from an empty one with torch loaded to the
peak of two steps; what the file that stands for the host's memory holds is not the process's. The plan is what
`finetune --plan` adds up for a CPU, without what lies in that file. Times: modes take turns of a step in one process,
and ratios are of neighbours; before any counts, the losses are checked to be equal.
"""

import argparse
import multiprocessing
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks.machine import describe
from benchmarks.memory import forget_peak
from benchmarks.pairs import ratio, table, take_turns
from benchmarks.workload import SHAPES, TINY, conversations
from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.compute.devices import prepare_cpu
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import MEMORY_MODES, FinetuneConfig
from nanochat_core.memory.counts import Training
from nanochat_core.memory.parts import FIXED_CPU, GIB, needs
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.system.processes import peak_bytes
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.setup import build_for_mode
from nanochat_core.training.step import TrainingStep

RATES = FinetuneConfig("-", matrix_lr=1e-3, embedding_lr=1e-3, unembedding_lr=1e-4)
MICRO_BATCH = 4
CPU = Ranks(0, 1, torch.device("cpu"))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", choices=["memory", "time"])
    options = parser.parse_args()
    print(describe())
    for dtype in options.dtypes:
        if options.only != "time":
            name, shape = ("tiny", TINY) if options.small else ("d12", SHAPES["d12"])
            print(f"\nmemory, {name}, {dtype}\n\n{memory(shape, dtype)}", flush=True)
        if options.only != "memory":
            name, shape = ("tiny", TINY) if options.small else ("d4", SHAPES["d4"])
            print(
                f"\ntime, {name}, {dtype}\n\n{times(shape, dtype, 1 if options.small else options.turns)}", flush=True
            )


def memory(shape: GPTConfig, dtype: str) -> str:
    """The table of peaks. ValueError when the losses of two modes differ."""
    rows, losses = [], set()
    for planned in needs(training_of(shape, dtype)):
        peak, loss = measured_peak(shape, dtype, planned.memory)
        plan = planned.card_bytes - planned.card["fixed"] + FIXED_CPU
        losses.add(loss)
        rows.append([planned.memory, f"{peak / GIB:.2f}", f"{plan / GIB:.2f}", f"{peak / plan:.2f}"])
    if len(losses) != 1:
        raise ValueError(f"The modes have different losses: {losses}.")
    return table(["mode", "peak, GiB", "plan, GiB", "peak / plan"], rows)


def training_of(shape: GPTConfig, dtype: str) -> Training:
    """What is measured, as the plan has it."""
    lengths = sorted((example.inputs for example in some_conversations(shape)), reverse=True)
    return Training(shape, sum(lengths[:MICRO_BATCH]), sum(lengths), dtype, on_cpu=True)


def some_conversations(shape: GPTConfig) -> list[Example]:
    """Two micro-batches."""
    return conversations(shape, 2 * MICRO_BATCH)


def measured_peak(shape: GPTConfig, dtype: str, mode: str) -> tuple[float, float]:
    """(bytes beyond an empty process with torch, loss of the second step), by a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(dict(_model(shape, "float32").named_parameters()), f"{folder}/model_000000.pt")
        process = context.Process(target=_measure, args=(theirs, Path(folder), shape, dtype, mode))
        process.start()
        found: tuple[float, float] = ours.recv()
        process.join()
    return found


def _measure(connection: Connection, folder: Path, shape: GPTConfig, dtype: str, mode: str) -> None:
    torch.set_num_threads(1)  # each thread has work space of its own
    prepare_cpu()
    _step(_model(TINY, dtype), mode)(some_conversations(TINY))  # what libraries set up once
    empty = forget_peak()
    weights = read_weights(folder / "model_000000.pt")  # mapped, as a run has it
    step = _step(build_for_mode(replace(RATES, dtype=dtype), shape, weights, CPU, mode), mode)
    losses = [step.take(number, some_conversations(shape)).train_loss for number in range(2)]
    connection.send((peak_bytes() - empty, losses[-1]))


def _model(shape: GPTConfig, dtype: str) -> GPT:
    model, generator = GPT(shape, DTYPES[dtype]), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5, generator=generator)
    return model


def _step(model: GPT, mode: str) -> TrainingStep:
    return TrainingStep(model, build_mode(mode, model, RATES, CPU), CPU, MICRO_BATCH)


def times(shape: GPTConfig, dtype: str, turns: int) -> str:
    """The table of times, with the fixed order of sums beside them. ValueError when two losses differ."""
    prepare_cpu()
    examples = conversations(shape, 16)
    steps = {mode: _step(_model(shape, dtype), mode) for mode in MEMORY_MODES}
    steps["plain, fixed_sums"] = _step(_model(shape, dtype), "plain")
    steps["plain, fixed_sums"].fixed_sums = True
    steps["layerwise, fixed_sums"] = _step(_model(shape, dtype), "layerwise")
    steps["layerwise, fixed_sums"].fixed_sums = True
    losses = {name: step.take(0, examples).train_loss for name, step in steps.items()}
    if len(set(losses.values())) != 1:
        raise ValueError(f"The modes have different losses: {losses}.")
    figures = take_turns({name: _timed(step, examples) for name, step in steps.items()}, turns)
    rows = [
        [name, f"{min(figures[name]):.2f}", *(str(ratio(figures[name], figures[to])) for to in ("plain", "layerwise"))]
        for name in steps
    ]
    return table(["mode", "seconds", "of plain", "of layerwise"], rows)


def _timed(step: TrainingStep, examples: list[Example]):
    def take() -> float:
        started = time.process_time()
        step(examples)
        return time.process_time() - started

    return take


if __name__ == "__main__":
    main()
