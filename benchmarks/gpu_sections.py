"""What gpu_check measures: each section a function from a device and a size to facts, for a process of its own."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_device import Cpu, Measured
from benchmarks.train_step import flops_per_token
from nanochat_core.compute.devices import choose_compute_dtype
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import MEMORY_MODES, FinetuneConfig
from nanochat_core.memory.counts import Training
from nanochat_core.memory.parts import FIXED, GIB, needs
from nanochat_core.memory.plan import named_card, plan_memory
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.step import TrainingStep

CARDS = ("8GB", "12GB", "16GB", "24GB", "48GB", "80GB")
BITS_STEPS, SPEED_STEPS = 4, 3
LARGE = 1 << 24
TOLERANCE, PLANNED_WITHIN = 2e-3, 0.05
"""Relative: of losses and weights on another device, of peak memory."""


@dataclass(frozen=True)
class Size:
    """How large the models are."""

    bits: GPTConfig
    """Of the sections about equal weights."""
    shape: GPTConfig
    """Of those about memory and speed."""
    tokens: int
    """Of each conversation."""
    conversations: int
    reply: int
    """Tokens of a reply."""


_TINY = GPTConfig(sequence_len=32, vocab_size=256, n_layer=3, n_head=2, n_kv_head=2, n_embd=32)
WHOLE = Size(replace(_TINY, sequence_len=128, vocab_size=1024, n_embd=256), GPTConfig(), 2048, 4, 64)
SMALL = Size(_TINY, _TINY, 32, 4, 8)


def facts(card: Measured, size: Size) -> dict[str, Any]:
    """What is measured on."""
    bf16 = choose_compute_dtype("bfloat16", card.device) == torch.bfloat16
    return {"ok": True, "device": card.describe(), "total": card.total, "bf16": bf16}


def bits(card: Measured, size: Size, generation: str) -> dict[str, Any]:
    """Whether weights and state of every mode are plain's to the last bit, after steps with accumulation.

    With torch's deterministic kernels they must be. With the ones that it takes by itself it is only said: there plain
    may differ from plain, since flash attention's gradient is summed in any order.
    """
    shape = replace(size.bits, generation=generation, window_pattern="SL")
    dtype = choose_compute_dtype("bfloat16", card.device)
    found: dict[str, Any] = {"dtype": str(dtype)}
    for kernels in ("deterministic", "default"):
        torch.use_deterministic_algorithms(kernels == "deterministic")
        plain = _trained(card.device, shape, "plain", dtype)
        # `plain` among them tells whether a second training of plain gives the same.
        found[kernels] = {memory: _same(plain, _trained(card.device, shape, memory, dtype)) for memory in MEMORY_MODES}
    return {**found, "ok": all(found["deterministic"].values())}


def against_cpu(card: Measured, size: Size) -> dict[str, Any]:
    """Losses, and weights after the steps, of the device and of a CPU in fp32."""
    torch.use_deterministic_algorithms(mode=True)
    torch.set_float32_matmul_precision("highest")
    ours = _trained(card.device, size.bits, "plain", torch.float32)
    theirs = _trained(Cpu().device, size.bits, "plain", torch.float32)
    loss = max(abs(a - b) / b for a, b in zip(ours["losses"], theirs["losses"], strict=True))
    weights = max(_distance(ours["tensors"][name], tensor) for name, tensor in theirs["tensors"].items())
    return {"ok": loss < TOLERANCE and weights < TOLERANCE, "loss": loss, "weights": weights}


def mode(card: Measured, size: Size, memory: str) -> dict[str, Any]:
    """Peak memory against the plan, on the smallest card that the plan says it fits, and speed."""
    dtype = choose_compute_dtype("bfloat16", card.device)
    tokens = size.tokens * size.conversations
    training = Training(size.shape, size.tokens, tokens, str(dtype).removeprefix("torch."))
    need = next(need for need in needs(training) if need.memory == memory)
    found: dict[str, Any] = {"ok": True, "planned": need.card_bytes, "host": need.host_bytes, "tokens_per_step": tokens}
    played = next((name for name in CARDS if plan_memory(training, named_card(name)).mode(memory).fits), None)
    if card.total is not None:
        if need.card_bytes > card.total:
            return {**found, "left_out": f"the card has {card.total / GIB:.1f} GiB"}
        if played:  # else it needs more than the largest of them, and has the whole card
            card.play(min(card.total, named_card(played).card_bytes or 0), FIXED)
        found["played"] = played
    step = _build(card.device, size.shape, memory, dtype, device_batch_size=1)
    examples = _examples(size.shape, [size.tokens] * size.conversations)
    step.take(0, examples)  # makes the optimizers' state, and whatever is made once
    card.forget_peak()
    seconds, losses = [], []
    for number in range(SPEED_STEPS):
        started = time.perf_counter()
        losses.append(step.take(number + 1, examples).train_loss)
        card.wait()
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    rate, peak, flops = tokens / median, card.peak(), card.peak_flops()
    found |= {"seconds": median, "tokens_per_s": rate, "peak": peak, "outside": card.outside(), "losses": losses}
    found["mfu"] = flops_per_token(size.shape) * rate / flops if flops else None
    if peak is not None:
        found["ok"] = abs(peak - (need.card_bytes - FIXED)) <= PLANNED_WITHIN * (need.card_bytes - FIXED)
    found["ok"] &= losses[-1] < losses[0]
    return found


def chat(card: Measured, size: Size) -> dict[str, Any]:
    """Tokens per second of one greedy reply, from its second token on."""
    dtype = choose_compute_dtype("bfloat16", card.device)
    with card.device:
        model = GPT(size.shape, dtype).to(dtype).eval().requires_grad_(requires_grad=False)
    _fill(model, card.device)
    cache, prompt = model.new_cache(1, 2 * size.reply), torch.zeros((1, size.reply), dtype=torch.long)
    fed = prompt.to(card.device)
    with torch.no_grad():
        for number in range(size.reply):
            if number == 1:
                card.wait()
                started = time.perf_counter()
            fed = model(fed, cache=cache)[:, -1].argmax(-1, keepdim=True)
            int(fed)  # a chat reads each token
    rate = (size.reply - 1) / (time.perf_counter() - started)
    return {"ok": True, "tokens_per_s": rate, "bytes": sum(p.nbytes for p in model.parameters())}


SECTIONS: dict[str, Callable[[Measured, Size], dict[str, Any]]] = {
    "facts": facts,
    "bits A": lambda card, size: bits(card, size, "A"),
    "bits E": lambda card, size: bits(card, size, "E"),
    "CPU": against_cpu,
    **{f"mode {name}": (lambda card, size, name=name: mode(card, size, name)) for name in MEMORY_MODES},
    "chat": chat,
}
"""By name, in the order in which they run."""


def _trained(device: torch.device, shape: GPTConfig, memory: str, dtype: torch.dtype) -> dict[str, Any]:
    """Some steps: their losses, and the weights and optimizer state after them, on the host."""
    step = _build(device, shape, memory, dtype, device_batch_size=2)
    examples, losses = _examples(shape, [shape.sequence_len - number for number in range(5)]), []
    for number in range(BITS_STEPS):
        losses.append(step.take(number, examples).train_loss)
    names = [name for name, _ in step.model.named_parameters()]
    tensors = {name: step.mode.weight(name).cpu() for name in names}
    for name in names:
        tensors |= {f"{name} {key}": value.cpu() for key, value in step.mode.state(name).items()}
    return {"losses": losses, "tensors": tensors}


def _build(
    device: torch.device, shape: GPTConfig, memory: str, dtype: torch.dtype, device_batch_size: int
) -> TrainingStep:
    """A training of random weights. They are made in host memory, as they are read from a file."""
    model = GPT(shape, dtype)
    _fill(model, device)
    if memory in ("plain", "checkpointed"):
        model.to(device)
    ranks = Ranks(0, 1, device)
    config = FinetuneConfig("-", matrix_lr=0.002, embedding_lr=0.002, unembedding_lr=0.0005)
    built = build_mode(memory, model, config, ranks)
    gc.collect()
    return TrainingStep(model, built, ranks, device_batch_size)


@torch.no_grad()
def _fill(model: GPT, device: torch.device) -> None:
    """Random numbers, the same for every mode; those of a large model from the device, where they take no time."""
    source = device if sum(parameter.numel() for parameter in model.parameters()) > LARGE else torch.device("cpu")
    generator = torch.Generator(source).manual_seed(0)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, device=source) * 0.02)


def _examples(shape: GPTConfig, tokens: list[int]) -> list[Example]:
    """Conversations of so many random tokens, all trained."""
    chance = np.random.default_rng(0)
    ids = [chance.integers(0, shape.vocab_size, count + 1, np.int32) for count in tokens]
    return [Example(one, np.ones(len(one), bool), index) for index, one in enumerate(ids)]


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first["losses"] == second["losses"] and all(
        torch.equal(tensor, second["tensors"][name]) for name, tensor in first["tensors"].items()
    )


def _distance(first: Tensor, second: Tensor) -> float:
    """Of two tensors, as a share of the second's norm."""
    return float((first.double() - second.double()).norm() / second.double().norm().clamp(min=1e-12))
