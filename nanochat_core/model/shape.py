"""The shape of a model, and the generations of nanochat's architecture: A (2025, d32) to E (July 2026).

nanochat's checkpoints say the shape as their `model_config`; the generation is told by the names of the weights.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


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


MOST = {
    "sequence_len": 1 << 20,
    "vocab_size": 1 << 24,
    "n_layer": 1024,
    "n_head": 4096,
    "n_kv_head": 4096,
    "n_embd": 1 << 17,
    "padded_vocab_size": 1 << 24,
}
"""Upper bounds far above every nanochat: a file that says more is damaged or hostile."""


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a model: the `model_config` of nanochat's meta_*.json, and what its weights add to that."""

    sequence_len: int = 2048
    vocab_size: int = 65536
    n_layer: int = 32
    n_head: int = 16
    n_kv_head: int = 16
    n_embd: int = 2048
    window_pattern: str = "L"
    generation: str = "A"
    padded_vocab_size: int = 0
    """Rows of the embedding table where they are more than vocab_size; 0 when they are not."""

    def __post_init__(self) -> None:
        """ValueError for values that no model can have: they come from files that anybody may have written."""
        for name, most in MOST.items():
            value = getattr(self, name)
            least = 0 if name == "padded_vocab_size" else 1
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError(
                    f"{name} is {value!r:.40} in the model_config; it must be a whole number from {least} to {most:,}. "
                    "Use the meta file that belongs to the checkpoint."
                )
        if self.n_embd % self.n_head or self.n_head % self.n_kv_head or self.head_dim % 2:
            raise ValueError(
                f"A model_config with n_embd {self.n_embd}, n_head {self.n_head} and n_kv_head {self.n_kv_head} has "
                "no even number of channels per head. Use the meta file that belongs to the checkpoint."
            )
        pattern = self.window_pattern
        if not isinstance(pattern, str) or not re.fullmatch("[SLsl]{1,1024}", pattern):
            raise ValueError(
                f"window_pattern is {pattern!r:.40} in the model_config; it must be letters S and L. "
                "Use the meta file that belongs to the checkpoint."
            )

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    @property
    def vocab_rows(self) -> int:
        return max(self.padded_vocab_size, self.vocab_size)

    def window(self, layer: int) -> int | None:
        """Sliding window of a layer in tokens; None when it sees everything before it."""
        letter = self.window_pattern[layer % len(self.window_pattern)].upper()
        if self.generation == "A" or letter == "L" or layer == self.n_layer - 1:
            return None
        return GENERATIONS[self.generation].short_window(self.sequence_len)

    def has_value_embedding(self, layer: int) -> bool:
        """Whether the layer adds value embeddings: every other one does, the last included."""
        return GENERATIONS[self.generation].value_gate_width > 0 and layer % 2 == (self.n_layer - 1) % 2

    def to_meta(self) -> dict[str, Any]:
        """nanochat's `model_config`: what the weights tell by themselves is left out."""
        values = asdict(self)
        del values["generation"], values["padded_vocab_size"]
        if self.generation == "A":  # its nanochat has no such argument
            del values["window_pattern"]
        return values


def is_table(name: str) -> bool:
    """Whether rows of this parameter are looked up by token; nanochat keeps such tables in bf16."""
    return name == "transformer.wte.weight" or name.startswith("value_embeds.")


_UNKNOWN_PARTS = re.compile(r"bigram_|v0_lambdas|value_embed_[AB]")


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
