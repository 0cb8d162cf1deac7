"""How fast llama.cpp is to be expected on this machine with a model in each quantization. Without torch, as `quants`.

A token of a reply needs each weight once. So it takes at least the time in which the machine reads them from memory,
which is measured here, and at least the time that llama.cpp computes with them, for which its speed per weight was
measured once: it differs less between processors than people's memory does.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from nanochat_core.export.llama.quants import Quant, weights_read
from nanochat_core.model.shape import GPTConfig

_NANOSECONDS = {"f32": 0.29, "bf16": 0.25, "q8_0": 0.14, "q5_0": 0.14, "q4_0": 0.12}
"""Per weight, on one thread of an AVX2 processor (Zen 1), from its tokens per second with a d8; q5_0 taken as q8_0."""

_BYTES = 128 << 20
"""More than the caches hold."""
_MOST_THREADS = 8
"""What llama.cpp gains by further ones is small."""


def tokens_per_second(config: GPTConfig, quant: Quant) -> float:
    """Tokens of a reply per second, to be expected of llama.cpp on this machine's processor."""
    weights = weights_read(config)
    reading = weights * quant.bytes_per_weight / memory_rate()
    computing = weights * _NANOSECONDS[quant.name] * 1e-9 / _threads()
    return 1 / max(reading, computing)


@cache
def memory_rate() -> float:
    """Bytes per second that the processor reads from memory with all threads: the best of some tries, 0.1 s in all."""
    pieces = np.array_split(np.ones(_BYTES // 8), _threads())
    with ThreadPoolExecutor(len(pieces)) as threads:
        seconds = [_timed(threads, pieces) for _ in range(4)]
    return _BYTES / min(seconds)


def _timed(threads: ThreadPoolExecutor, pieces: list[np.ndarray]) -> float:
    begun = time.perf_counter()
    for _ in threads.map(np.max, pieces):
        pass
    return time.perf_counter() - begun


def _threads() -> int:
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
