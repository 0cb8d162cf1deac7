"""The README's table of what each card can train, made from the plan; a test holds the README to it."""

from dataclasses import replace

from nanochat_core.config import FinetuneConfig
from nanochat_core.memory.plan import MemoryPlan, named_card, plan_memory, training_of
from nanochat_core.memory.shapes import shape_of_depth
from nanochat_core.memory.tables import gib

CARDS = ("8GB", "12GB", "16GB", "24GB", "48GB", "80GB")
DEPTHS = (12, 20, 32, 34)
_BATCHES = (4, 2, 1)
"""Conversations at once, the largest first."""


def memory_table() -> str:
    """A row for each card, a column for each model."""
    rows = ["| card | " + " | ".join(f"d{depth}" for depth in DEPTHS) + " |", "|---" * (len(DEPTHS) + 1) + "|"]
    rows += [f"| {card} | " + " | ".join(_cell(card, depth) for depth in DEPTHS) + " |" for card in CARDS]
    return "\n".join(rows)


def plain_d32() -> str:
    """What plain needs for d32 with the default settings."""
    return gib(_plan("80GB", 32, FinetuneConfig.device_batch_size).mode("plain").need.card_bytes)


def saving_d32(memory: str) -> str:
    """The host's memory while a checkpoint of d32 is saved in this mode."""
    plan = _plan("80GB", 32, 1)
    return gib(plan.device.host_needed(plan.mode(memory).need))


def _plan(card: str, depth: int, batch: int) -> MemoryPlan:
    config = replace(FinetuneConfig("-"), device_batch_size=batch)
    return plan_memory(training_of(config, shape_of_depth(depth)), named_card(card))


def _cell(card: str, depth: int) -> str:
    plans = [_plan(card, depth, batch) for batch in _BATCHES]
    fitting = [plan for plan in plans if plan.chosen is not None]
    if not fitting:
        return "lower `max_seq_len`, planned"
    order = [mode.need.memory for mode in fitting[0].modes]
    best = min(fitting, key=lambda plan: order.index(plan.chosen or ""))  # of several the first: the largest batch
    need = best.mode(best.chosen or "").need
    host = f" + {gib(need.host_bytes)} on the host" if need.host_bytes else ""
    return f"{need.memory}, {best.training.step_tokens:,} tokens, {gib(need.card_bytes)}{host}, planned"
