"""Choosing the next token from the logits: greedy, or at random with temperature, top-k and top-p."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How to choose: temperature 0 takes the most likely token; top_k None or 0 admits all, and so does top_p 1."""

    temperature: float = 0.7
    top_k: int | None = 50
    seed: int = 1
    top_p: float = 1.0
    """Of the top_k, only the likeliest that together have this probability (Holtzman et al., arXiv 1904.09751)."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.temperature) or self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 (always the likeliest word) or more.")
        if self.top_k is not None and self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must be 1 or more, or 0 for no limit.")
        if not 0 <= self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be from 0 to 1, 1 for no limit.")

    def generator(self) -> torch.Generator:
        """A fresh source of random numbers, on the CPU, so that every device gives the same reply."""
        return torch.Generator().manual_seed(self.seed % 2**63)

    def choose(self, logits: Tensor, generators: list[torch.Generator]) -> list[int]:
        """One token id for each row of `logits` (B, V). ValueError when the model gives NaN."""
        largest = (
            logits.amax(dim=-1) if logits.is_cpu else logits
        )  # on a CPU a NaN comes through, in a fifth of the time
        if largest.isnan().any():
            raise ValueError(
                "The model's output is not a number (NaN): its weights are damaged or its training diverged. "
                "Take an earlier checkpoint, or train again with a lower learning rate."
            )
        if self.temperature == 0:
            return logits.argmax(dim=-1).tolist()
        size = logits.shape[-1]
        values, ids = logits.float().cpu().topk(min(self.top_k or size, size))
        weights = torch.softmax(values / max(self.temperature, 1e-30), dim=-1)  # what is smaller overflows to NaN
        if self.top_p < 1:
            before = weights.cumsum(-1) - weights  # they come in order, the likeliest first
            before[:, 0] = -1.0  # which stays in any case
            weights = weights.masked_fill(before >= self.top_p, 0.0)
        picks = [int(torch.multinomial(row, 1, generator=source)) for row, source in zip(weights, generators)]
        return ids[torch.arange(len(picks)), picks].tolist()
