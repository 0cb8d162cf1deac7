"""What the optimizer costs beside forward and backward of the same step, and how close its update is to the exact one.

    python -m benchmarks.optimizer             the shapes d4 and d8; --small: a tiny one; --shapes d12: others

A step is 32 conversations in micro-batches of 4, in bf16; all is processor time, one after the other in turns. The
error is that of the update, against Newton-Schulz in fp64 on the step's own gradients, relative in the Frobenius norm.
"""

import argparse
import math
import statistics

import torch
from torch import Tensor

from benchmarks.machine import cpu_seconds, describe, gemm_rate
from benchmarks.pairs import ratio, table, take_turns
from benchmarks.workload import SHAPES, TINY, conversations, random_model
from nanochat_core.config import FinetuneConfig
from nanochat_core.data.tokens.plan import micro_batches
from nanochat_core.model.batch import pack
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.training.muon import LARGE_FROM, WIDE_FROM, A, B, C, Muon
from nanochat_core.training.newton_schulz import can_orthogonalize, passes_over
from nanochat_core.training.optimizers import build_optimizers

TORCHS = {"momentum": 0.95, "nesterov": True, "weight_decay": 0.0, "adjust_lr_fn": "original"}
TOLERANCE = 1.05
"""Errors are of rounding, so that they differ a little by chance."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--shapes", nargs="+", default=["d4", "d8"], choices=SHAPES)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    shapes = {"tiny": TINY} if options.small else {name: SHAPES[name] for name in options.shapes}
    print(describe())
    costs, updates = [], []
    for name, config in shapes.items():
        cost, update = measure(name, config, options.turns)
        costs.append(cost)
        updates.append(update)
    print("\nSeconds of processor time, medians:\n")
    print(table(["", "forward, backward", "torch's Muon", "ours", "AdamW", "gradient norm", "zeroing"], costs))
    print("\nMuon:\n")
    header = ["", "times as fast as torch's", "share of the step, torch's", "share, ours", "GFLOP, torch's", "ours"]
    print(table([*header, "ours at this run's GEMM rate", "error, torch's", "error, ours"], updates))


def measure(name: str, config: GPTConfig, turns: int) -> tuple[list[str], list[str]]:
    """A row of each table, for one shape. AssertionError when our update is farther from the exact one than torch's."""
    model = random_model(config, torch.bfloat16)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    batches = [pack(batch) for batch in micro_batches(conversations(config, 32), 4)]
    supervised = sum(int((batch.targets != -1).sum()) for batch in batches)

    def forward_and_backward() -> None:
        for batch in batches:
            (model.loss_sum(batch.ids, batch.targets, batch.lengths) / supervised).backward()

    forward_and_backward()
    ours, adamw = build_optimizers(model, FinetuneConfig("-"))
    theirs = torch.optim.Muon(ours.param_groups[0]["params"], **TORCHS)
    errors = compare(model)
    for optimizer in (ours, theirs, adamw):
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # the weights stay what they are, at the same cost
    gradients = [parameter.grad for parameter in model.parameters()]
    parts = {
        "forward": forward_and_backward,
        "theirs": theirs.step,
        "ours": ours.step,
        "adamw": adamw.step,
        "norm": lambda: torch.nn.utils.get_total_norm(gradients),
        "zeroing": lambda: [gradient.zero_() for gradient in gradients],
    }
    found = take_turns({key: lambda part=part: cpu_seconds(part) for key, part in parts.items()}, turns)
    medians = {key: statistics.median(seconds) for key, seconds in found.items()}
    rest = sum(medians[key] for key in ("forward", "adamw", "norm", "zeroing"))
    flops = [sum(count(*p.shape) for p in ours.param_groups[0]["params"]) for count in (torchs_flops, our_flops)]
    return [name, *(_seconds(value) for value in medians.values())], [
        name,
        str(ratio(found["theirs"], found["ours"])),
        *(f"{medians[key] / (rest + medians[key]):.1%}" for key in ("theirs", "ours")),
        *(f"{count / 1e9:.1f}" for count in flops),
        f"{_seconds(flops[1] / gemm_rate(torch.bfloat16))} s",
        *(f"{error:.2%}" for error in errors),
    ]


def compare(model: GPT) -> tuple[float, float]:
    """Mean error of a first step, (torch's, ours), over the matrices of the first and the last block."""
    errors = []
    for block in (model.transformer.h[0], model.transformer.h[-1]):
        for parameter in block.parameters():
            if parameter.ndim == 2:
                exact = newton_schulz(parameter.grad)
                makers = lambda p: torch.optim.Muon(p, lr=1.0, **TORCHS), lambda p: Muon(p, lr=1.0)
                errors.append([_error(first_update(make, parameter.grad), exact) for make in makers])
    theirs, ours = (statistics.mean(column) for column in zip(*errors))
    assert ours <= TOLERANCE * theirs, f"our update is {ours:.4f} off the exact one, torch's {theirs:.4f}"
    return theirs, ours


def first_update(make, gradient: Tensor) -> Tensor:
    """What the first step subtracts, without the factor for tall matrices."""
    parameter = torch.nn.Parameter(torch.zeros_like(gradient))
    parameter.grad = gradient
    make([parameter]).step()
    return -parameter.detach() / math.sqrt(max(1.0, gradient.shape[0] / gradient.shape[1]))


def newton_schulz(gradient: Tensor) -> Tensor:
    """Muon's orthogonalization in fp64, by the formula."""
    is_tall = gradient.shape[0] > gradient.shape[1]
    x = (gradient.T if is_tall else gradient).double()
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.T if is_tall else x


def torchs_flops(rows: int, columns: int) -> float:
    """Five steps with three whole products each take so many FLOPs."""
    small, large = sorted((rows, columns))
    return 5 * (4 * small**2 * large + 2 * small**3)


def our_flops(rows: int, columns: int) -> float:
    """With symmetric products at half; several steps of a wide matrix in one pass over it."""
    small, large = sorted((rows, columns))
    if can_orthogonalize(torch.device("cpu")):
        passes = len(passes_over(rows, columns))
        return 3 * passes * small**2 * large + (20 - 3 * passes) * small**3
    is_wide = small >= LARGE_FROM and large >= WIDE_FROM * small
    return 9 * small**2 * large + 13 * small**3 if is_wide else 15 * small**2 * large + 5 * small**3


def _error(found: Tensor, exact: Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.4f}"


if __name__ == "__main__":
    main()
