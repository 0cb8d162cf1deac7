"""What the evaluation costs: the distance from the base at every validation of a run, and 500 questions to the starter.

    python -m benchmarks.evaluation            the example on the starter; --small: a few questions, one turn

The gauge's share is that of a run with the starter's preset: it is written once and read at each validation, beside all
steps and validations. A step and a validation with and without it take turns, in processor time; what the questions
before and after take is left out, so the share of what a person waits for is smaller.
"""

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.machine import cpu_seconds, describe
from benchmarks.pairs import table, take_turns
from nanochat_core.checkpoint.loading import load_model
from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.training_data import load_training_data
from nanochat_core.evaluation.answers import evaluate
from nanochat_core.evaluation.questions import load_questions
from nanochat_core.paths import shipped, starter_dir
from nanochat_core.runs.presets import with_preset
from nanochat_core.training.setup import base_files, set_up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    print(describe())
    print("\nThe gauge, seconds of processor time:\n")
    head = ["written once", "validation without it", "with it", "step", "steps", "validations", "share of the run"]
    print(table(head, [gauge(1 if options.small else options.turns)]))
    print("\nQuestions to the starter, all at once:\n")
    print(table(["threads", "questions", "answered", "seconds"], asked(options.small)))


def gauge(turns: int) -> list[str]:
    """A row: what the gauge takes of a run of the example on the starter."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NANOCHAT_STUDIO_HOME"] = folder
        config = with_preset(data_path=str(shipped("data/example_data.jsonl")), model_tag="starter")
        alone = Ranks(0, 1, torch.device("cpu"))
        setup = set_up(config, alone, base_files(config), lambda tokenizer: load_training_data(config, tokenizer))
        path = Path(folder) / "base.pt"
        written = cpu_seconds(lambda: setup.gauged(path, is_new=True))
        with_it, without = setup.gauged(path, is_new=False), dataclasses.replace(setup, gauge=None)
        step = next(iter(setup.plan.steps_from(0)))
        numbers = iter(range(1_000_000))
        found = take_turns(
            {
                "without": lambda: cpu_seconds(without.validate),
                "with": lambda: cpu_seconds(with_it.validate),
                "step": lambda: cpu_seconds(lambda: setup.training_step.take(next(numbers) % setup.steps, step)),
            },
            turns,
        )
    plain, gauged, one_step = (statistics.median(found[name]) for name in ("without", "with", "step"))
    validations = 1 + -(-setup.steps // setup.eval_every)
    more = written + validations * statistics.median(b - a for a, b in zip(found["without"], found["with"]))
    share = more / (setup.steps * one_step + validations * plain + more)
    seconds = [f"{value:.4f}" for value in (written, plain, gauged, one_step)]
    return [*seconds, str(setup.steps), str(validations), f"{100 * share:.2f}%"]


def asked(small: bool) -> list[list[str]]:
    """Rows: how long the starter's own questions take, on one thread and on all cores."""
    model, tokenizer, _ = load_model("starter")
    questions = load_questions(starter_dir() / "eval.jsonl")[: 10 if small else None]
    rows = []
    for threads in (1, len(os.sched_getaffinity(0))):
        torch.set_num_threads(threads)
        started = time.perf_counter()
        result = evaluate(model, tokenizer, questions)
        rows.append([str(threads), str(result.total), str(result.correct), f"{time.perf_counter() - started:.1f}"])
    return rows


if __name__ == "__main__":
    main()
