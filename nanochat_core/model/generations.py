"""The generations of nanochat's architecture, A (2025, d32) to E (July 2026), and how a checkpoint tells its own."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """What differs between the generations in the forward pass (nanochat-format: generations of the architecture)."""

    letter: str
    value_gate_width: int
    """Channels that the value embeddings' gate reads; 0 when there are no value embeddings."""
    value_gate_scale: float
    rope_base: float
    qk_scale: float
    """Factor on q and on k after their norm."""
    short_window: Callable[[int], int]
    """From sequence_len to the sliding window of an "S" layer: a key is kept iff query - key <= window."""
    has_lambdas: bool = False
    """Learned scalars mix the residual stream and the embedding before each block; sliding windows exist."""
    has_smear: bool = False
    """The previous token's embedding is mixed in, and the middle layer's output subtracted at the end."""
    rounds_rotary: bool = False
    """cos and sin were rounded to bf16 whatever the precision of the rest."""


def _part_rounded_up(part: int) -> Callable[[int], int]:
    return lambda sequence_len: -(-sequence_len // (part * 128)) * 128


GENERATIONS = {
    "A": Generation("A", 0, 0.0, 10_000.0, 1.0, lambda length: length, rounds_rotary=True),
    "B": Generation("B", 0, 0.0, 10_000.0, 1.0, lambda length: length // 2, has_lambdas=True, rounds_rotary=True),
    "C": Generation("C", 32, 2.0, 10_000.0, 1.0, lambda length: length // 2, has_lambdas=True, rounds_rotary=True),
    "D": Generation("D", 12, 3.0, 100_000.0, 1.15, _part_rounded_up(3), has_lambdas=True),
    "E": Generation("E", 12, 3.0, 100_000.0, 1.2, _part_rounded_up(4), has_lambdas=True, has_smear=True),
}

_UNKNOWN_PARTS = re.compile(r"bigram_|v0_lambdas|value_embed_[AB]")


def is_table(name: str) -> bool:
    """Whether rows of this parameter are looked up by token; nanochat keeps such tables in bf16."""
    return name == "transformer.wte.weight" or name.startswith("value_embeds.")


def detect_generation(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The letter of the generation whose weights have these names and shapes.

    Raises ValueError for a checkpoint of an experiment that never became a generation.
    """
    strange = sorted(name for name in shapes if _UNKNOWN_PARTS.match(name.removeprefix("transformer.")))
    if strange:
        raise ValueError(
            f"This checkpoint comes from an experimental nanochat branch (it holds {strange[0]}), which is not "
            "supported. Use a checkpoint of a published nanochat version."
        )
    if "smear_gate.weight" in shapes:
        return "E"
    gates = [shape[-1] for name, shape in shapes.items() if name.endswith("attn.ve_gate.weight") and shape]
    if gates:
        letter = {32: "C", 12: "D"}.get(gates[0])
        if letter is None:
            raise ValueError(
                f"This checkpoint's value gates read {gates[0]} channels; the known generations read 32 or 12. "
                "Use a checkpoint of a published nanochat version."
            )
        return letter
    return "B" if "resid_lambdas" in shapes else "A"
