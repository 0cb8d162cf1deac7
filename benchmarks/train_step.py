"""Tokens per second, MFU and peak memory of whole finetuning steps, optimizer included.

    python -m benchmarks.train_step              the shape of d32, on a GPU of 80 GB
    python -m benchmarks.train_step --small      a small shape, on any machine

Random weights and random conversations; the steps are the trainer's own. Each takes 16 conversations of 2048 tokens in
micro-batches of 4, all tokens supervised, as FinetuneConfig's defaults have it. MFU counts 6 FLOPs per token and matrix
parameter and the causal half of attention (Chowdhery et al., PaLM, arXiv 2204.02311, appendix B), over the device's
dense bf16 peak.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from nanochat_core.compute.devices import choose_compute_dtype, choose_device, peak_memory
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.step import TrainingStep

D32, SMALL = GPTConfig(), GPTConfig(sequence_len=256, n_layer=4, n_embd=256, n_head=2, n_kv_head=2, vocab_size=4096)
CONVERSATIONS = 16
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 FLOP/s by the makers' data sheets."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--steps", type=int, default=5, help="measured steps, after two that are not")
    options = parser.parse_args()
    config, device = SMALL if options.small else D32, choose_device("auto")
    seconds, losses = measure(config, device, options.steps)
    tokens = CONVERSATIONS * config.sequence_len
    median = statistics.median(seconds)
    flops = flops_per_token(config) * tokens / median
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    peak = next((value for part, value in PEAK_FLOPS.items() if part in name), None)
    print(f"{name}, torch {torch.__version__}, {config.n_layer} layers of {config.n_embd}, {tokens} tokens per step")
    print(f"step: median {median:.2f} s of {len(seconds)} (from {min(seconds):.2f} to {max(seconds):.2f})")
    share = f"{flops / peak:.1%}" if peak else "unknown"
    print(f"tokens/s: {tokens / median:,.0f}; {flops / 1e12:.2f} TFLOP/s; MFU {share}")
    print(f"peak memory: {peak_memory(device) / 1e9:.1f} GB; loss {losses[0]:.3f} -> {losses[-1]:.3f}")


def measure(config: GPTConfig, device: torch.device, steps: int) -> tuple[list[float], list[float]]:
    """(seconds, loss) of each of `steps` steps after two of warming up."""
    with torch.device(device):
        model = GPT(config, choose_compute_dtype("bfloat16", device))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    ranks = Ranks(0, 1, device)
    mode = build_mode("plain", model, FinetuneConfig("-", matrix_lr=0.001, embedding_lr=0.001), ranks)
    step = TrainingStep(model, mode, ranks, device_batch_size=4)
    chance = np.random.default_rng(0)
    length = config.sequence_len + 1
    examples = [
        Example(chance.integers(0, config.vocab_size, length, np.int32), np.ones(length, bool), index)
        for index in range(CONVERSATIONS)
    ]
    seconds, losses = [], []
    for number in range(steps + 2):
        started = time.monotonic()
        losses.append(step(examples)[0])
        _wait(device)
        if number >= 2:
            seconds.append(time.monotonic() - started)
    return seconds, losses[2:]


def flops_per_token(config: GPTConfig) -> float:
    """Training FLOPs of one token in a row of sequence_len: the embedding look-up is none, causal attention half."""
    matrices = config.n_layer * 12 * config.n_embd**2 + config.vocab_size * config.n_embd
    return 6 * matrices + 6 * config.n_layer * config.n_embd * config.sequence_len


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
