"""The number format in which this machine writes replies the fastest: measured once, in a second, and kept.

It depends on what the processor multiplies, on its memory and on the threads, so that no rule knows it. Of those within
5% of the fastest the most exact is taken.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from nanochat_core.checkpoint.loading import DTYPES, build_for_inference
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.native.build import fingerprint
from nanochat_core.paths import home
from nanochat_core.system.files import write_json

AUTO = "auto"
"""What a person gives as the dtype for the fastest one."""
NEAR = 0.95
"""Of the fastest rate; what has it is as good."""
SHAPE = GPTConfig(sequence_len=128, vocab_size=16384, n_layer=4, n_head=4, n_kv_head=4, n_embd=512)
"""What is measured with: 84 MB of fp32 for a token, more than most caches hold, and soon read."""
TOKENS, TURNS = 6, 7


@dataclass(frozen=True)
class Fastest:
    """The name of a dtype, one of DTYPES, and the tokens per second of each that it was chosen by."""

    dtype: str
    rates: dict[str, float]

    def sentence(self) -> str:
        """What was found, in a line."""
        rates = ", ".join(f"{name} {rate:.0f}" for name, rate in self.rates.items())
        return (
            f"{self.dtype} is the fastest on this machine, or within 5% of it (tokens per second of a trial: {rates})."
        )


def dtype_asked(name: str | None, device: torch.device, say: Callable[[str], object]) -> torch.dtype | None:
    """The dtype that a person calls `name`: one of DTYPES, or AUTO, of which `say` is told; None for None.

    AUTO on another device than a CPU is None, what suits it best. ValueError for a name that is none of them.
    """
    if name is None or (name == AUTO and device.type != "cpu"):
        return None
    if name in DTYPES:
        return DTYPES[name]
    if name != AUTO:
        raise ValueError(f"dtype is '{name}'; it must be {AUTO} or one of {', '.join(DTYPES)}.")
    found = fastest()
    say(found.sentence())
    return DTYPES[found.dtype]


def fastest() -> Fastest:
    """What was measured on this machine with this number of threads; measured now where that was not done yet."""
    file = home() / "cache" / "fastest" / f"{_key()}.json"
    return _kept(file) or _measured(file)


def choose(rates: dict[str, float]) -> str:
    """The most exact of the dtypes that are within 5% of the fastest; DTYPES has them in that order."""
    enough = NEAR * max(rates.values())
    return next(name for name in DTYPES if rates[name] >= enough)


def _key() -> str:
    """Changes with the processor, the compiled code, torch, and the threads."""
    facts = (fingerprint(), torch.__version__, torch.get_num_threads())
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:20]


def _kept(file: Path) -> Fastest | None:
    try:
        rates = {name: float(json.loads(file.read_text(encoding="utf-8"))[name]) for name in DTYPES}
    except (OSError, ValueError, KeyError, TypeError):  # none, or of another version
        return None
    return Fastest(choose(rates), rates)


def _measured(file: Path) -> Fastest:
    rates = measure()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, rates)
    return Fastest(choose(rates), rates)


@torch.no_grad()
def measure() -> dict[str, float]:
    """Tokens per second of each dtype, which take turns: what else the machine does meets all of them."""
    models = {name: _model(dtype) for name, dtype in DTYPES.items()}
    caches = {name: model.new_cache(1, 1 + TOKENS * (TURNS + 1)) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(TURNS + 1):
        for name, model in models.items():
            begun = time.perf_counter()
            for _ in range(TOKENS):
                model(torch.zeros((1, 1), dtype=torch.long), cache=caches[name])
            seconds[name].append(time.perf_counter() - begun)
    return {name: TOKENS / statistics.median(found[1:]) for name, found in seconds.items()}  # the first warms up


def _model(dtype: torch.dtype) -> GPT:
    """Loaded as any other; its weights are all the same, which takes the same time."""
    with torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in GPT(SHAPE).named_parameters()}
    weights = {name: torch.full(shape, 0.01) for name, shape in shapes.items()}
    return build_for_inference(SHAPE, weights, torch.device("cpu"), dtype, for_chat=True)
