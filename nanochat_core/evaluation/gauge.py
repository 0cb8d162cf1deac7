"""How far a model in training is from the one it began with: KL(base || model) on validation conversations.

Forgetting is predicted by this distance on the new task's own inputs (arXiv 2509.04259), so no general data is needed.
Of the base only its last hidden states at the supervised tokens of some conversations are kept, and its output head:
its distributions are computed from them again, a piece at a time. For d32 that is 34 MB and 268 MB instead of 1.1 GB,
and it lies in the host's memory, mapped from a file that all processes of a machine share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from nanochat_core.checkpoint.checksums import verify_checksum, write_with_checksum
from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.tokens.plan import micro_batches
from nanochat_core.model.batch import pack
from nanochat_core.model.gpt import GPT
from nanochat_core.model.predictions import divergence
from nanochat_core.tokenizer.rendering import Example

GAUGE_TOKENS = 8192
"""About so many supervised tokens are compared, in whole micro-batches spread over the lengths; at least one."""


@dataclass(frozen=True)
class Gauge:
    """The base, as far as the distance from it needs it; on the host."""

    states: dict[int, Tensor]
    """Number of a micro-batch of the validation -> its last hidden states (K, C), in the precision of computation."""
    head: Tensor
    """(V, C), in the same precision."""

    def on(self, device: torch.device) -> "Gauge":
        """The same with its head on `device`, for the time of a validation."""
        return Gauge(self.states, self.head.to(device))

    def of_batch(self, number: int, hidden: Tensor, weight: Tensor) -> Tensor | None:
        """KL(base || this), float64 (K,), at the K supervised tokens of a micro-batch; None where it is not gauged.

        hidden (K, C) and weight (V, C): the present model's last hidden states there, and its head.
        """
        if number not in self.states:
            return None
        return divergence(self.states[number].to(hidden.device), self.head, hidden, weight)


@torch.no_grad()
def write_gauge(path: Path, model: GPT, examples: Sequence[Example], batch_size: int, ranks: Ranks) -> None:
    """Keep what a Gauge needs of `model`, the base. `examples` and `batch_size` are those of every validation."""
    batches, states = micro_batches(examples, batch_size), {}
    for number in _gauged(batches):
        batch = pack(batches[number]).to(ranks.device)
        states[number] = model.hidden(batch.ids, batch.layout, batch.wanted)[0].cpu()
    head = model.head.to("cpu").clone()
    size = sum(tensor.numel() * tensor.element_size() for tensor in [head, *states.values()])
    write_with_checksum(path, partial(torch.save, {"states": states, "head": head}), size)


def read_gauge(path: Path) -> Gauge:
    """What `write_gauge` kept, mapped. ValueError when the file is damaged."""
    remedy = "Delete it: the run then resumes without the distance from its base."
    verify_checksum(path, remedy)
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises several kinds by the damage
        raise ValueError(f"{path} is damaged or cut short ({type(error).__name__}). {remedy}") from error
    return Gauge(kept["states"], kept["head"])


def _gauged(batches: Sequence[Sequence[Example]]) -> list[int]:
    """Which micro-batches are compared: they lie in the order of their lengths, so even steps take of every length."""
    tokens = sum(example.supervised for batch in batches for example in batch)
    stride = max(1, math.ceil(tokens / GAUGE_TOKENS))
    return list(range(min(stride // 2, len(batches) - 1), len(batches), stride))
