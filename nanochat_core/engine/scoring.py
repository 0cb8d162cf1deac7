"""How likely a model takes each token of a text to be, and which ones it would have taken instead."""

from dataclasses import dataclass

import torch

from nanochat_core.model.attention import Layout
from nanochat_core.model.gpt import GPT
from nanochat_core.model.loss import SOFTCAP

_CHUNK = 128
"""Tokens whose logits are in memory at once: 32 MiB in fp32 with d32's vocabulary."""


@dataclass(frozen=True)
class Scored:
    """One token and its place among the others."""

    token: int
    log_probability: float | None
    """In nats; None for the first token, which nothing comes before."""
    likeliest: tuple[tuple[int, float], ...] = ()
    """(token, log-probability) of the likeliest at this place, as many as were asked for."""


@torch.no_grad()
def score(model: GPT, ids: list[int], most: int = 0) -> list[Scored]:
    """Each of the `ids` after those before it, with the `most` likeliest of its place, in one pass over all of them."""
    scored = [Scored(ids[0], None)]
    if len(ids) == 1:
        return scored
    given = torch.tensor([ids[:-1]], device=model.device)
    hidden = model.hidden(given, Layout.of(given.shape, None).to(model.device))[0]
    for start in range(0, len(hidden), _CHUNK):
        raw = model.lm_head(hidden[start : start + _CHUNK])[:, : model.config.vocab_size].float()
        logs = (SOFTCAP * torch.tanh(raw / SOFTCAP)).log_softmax(-1)
        following = torch.tensor(ids[start + 1 : start + 1 + len(logs)], device=model.device)
        own = logs.gather(1, following[:, None])[:, 0].tolist()
        values, places = (found.tolist() for found in logs.topk(most)) if most else ([[]] * len(own),) * 2
        rows = zip(following.tolist(), own, places, values)
        scored += [Scored(token, value, tuple(zip(best, logs))) for token, value, best, logs in rows]
    return scored
