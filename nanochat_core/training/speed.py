"""How fast this machine trains and chats with a model of some shape, measured in seconds on random weights.

    python -m nanochat_core.training.speed '[{"n_layer": 4, ...}]'     prints one JSON object

A large model is measured by a small one of its width, and scaled by operations and by bytes, so that d32 needs neither
its weights nor its memory here. In a process of its own: the caller need not load torch.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from nanochat_core.compute.devices import choose_compute_dtype, choose_device, prepare_cpu
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.memory.counts import Parameters, count_parameters
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.step import TrainingStep

LARGE = 1 << 26
"""Parameters from which a smaller model of the same width is measured."""
VOCABULARY, TOKENS = 4096, 256
STEP_TOKENS = 8192
"""Over so many tokens a step's update is spread."""
ENOUGH_SECONDS, REPLY = 1.5, 32


def measure(shape: GPTConfig, device: torch.device) -> dict[str, float]:
    """Expected tokens per second of a training and of a reply: {"train_tokens_per_s", "chat_tokens_per_s"}."""
    whole = count_parameters(shape)
    tried = shape if whole.total < LARGE else replace(shape, n_layer=1, vocab_size=VOCABULARY, padded_vocab_size=0)
    dtype = choose_compute_dtype("bfloat16", device)
    model = _random_model(tried, dtype, device)
    part = count_parameters(tried)
    per_flop = _training_seconds(model, device) / (TOKENS * _flops(tried, part))
    seconds_per_token = per_flop * (_flops(shape, whole) + _update_flops(shape) / STEP_TOKENS)
    model.to(dtype).requires_grad_(requires_grad=False)
    reply_seconds = _reply_seconds(model.eval(), device) * _read(whole) / _read(part)
    return {"train_tokens_per_s": 1 / seconds_per_token, "chat_tokens_per_s": 1 / reply_seconds}


def facts(device: torch.device) -> dict[str, Any]:
    """What torch says of itself and of the device that a training would take."""
    return {
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "torch_cpu": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "device_type": device.type,
        "bf16": choose_compute_dtype("bfloat16", device) == torch.bfloat16,
        "threads": torch.get_num_threads(),
    }


def wait_for(device: torch.device) -> None:
    """Return when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def random_examples(shape: GPTConfig, count: int, tokens: int) -> list[Example]:
    """Conversations of `tokens` random tokens, all trained."""
    chance = np.random.default_rng(0)
    ids = [chance.integers(0, shape.vocab_size, tokens + 1, np.int32) for _ in range(count)]
    return [Example(one, np.ones(tokens + 1, bool), index) for index, one in enumerate(ids)]


def _random_model(shape: GPTConfig, dtype: torch.dtype, device: torch.device) -> GPT:
    with device:
        model = GPT(shape, dtype)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def _training_seconds(model: GPT, device: torch.device) -> float:
    """Forward and backward of TOKENS tokens, or as many as the model takes."""
    tokens = min(TOKENS, model.config.sequence_len)
    ranks = Ranks(0, 1, device)
    step = TrainingStep(model, build_mode("plain", model, FinetuneConfig("-"), ranks), ranks, TOKENS)
    examples = random_examples(model.config, TOKENS // tokens, tokens)
    return _fastest(lambda: step.accumulate(examples), device)


def _reply_seconds(model: GPT, device: torch.device) -> float:
    """For one token of a reply."""
    cache, fed = model.new_cache(1, 2 * REPLY), torch.zeros((1, REPLY), dtype=torch.long, device=device)

    def reply() -> None:
        nonlocal fed
        cache.truncate(REPLY)
        for _ in range(REPLY):
            fed = model(fed, cache=cache)[:, -1].argmax(-1, keepdim=True)

    with torch.no_grad():
        model(fed, cache=cache)
        fed = fed[:, :1]
        return _fastest(reply, device) / REPLY


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of some tries after one that does not count; others may use the machine, too."""
    found: list[float] = []
    begin = time.perf_counter()
    while len(found) < 2 or time.perf_counter() - begin < ENOUGH_SECONDS:
        started = time.perf_counter()
        work()
        wait_for(device)
        found.append(time.perf_counter() - started)
    return min(found[1:])


def _flops(shape: GPTConfig, count: Parameters) -> float:
    """Of one token's forward and backward: 6 for each number of a matrix (Chowdhery et al., arXiv 2204.02311)."""
    return 6 * (count.matrices + shape.vocab_size * shape.n_embd)


def _update_flops(shape: GPTConfig) -> float:
    """Of Muon, in products of a block's matrices (muon.py): 4 square ones, 2 four times as wide."""
    return shape.n_layer * 2 * shape.n_embd**3 * (4 * 11.3 + 2 * 27.1)


def _read(count: Parameters) -> int:
    """Numbers that a token of a reply reads."""
    return count.matrices + count.head


def main() -> None:
    """Measure the shapes on the command line."""
    device = choose_device("auto")
    if device.type == "cpu":
        prepare_cpu()
    shapes = [GPTConfig(**values) for values in json.loads(sys.argv[1])]
    print(json.dumps({**facts(device), "speeds": [measure(shape, device) for shape in shapes]}))


if __name__ == "__main__":
    main()
