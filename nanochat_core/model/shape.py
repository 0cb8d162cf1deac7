"""The shape of a model: the `model_config` of nanochat's checkpoints, and what their weights add to that."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from nanochat_core.model.generations import GENERATIONS

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
        """Every other layer, the last included."""
        return GENERATIONS[self.generation].value_gate_width > 0 and layer % 2 == (self.n_layer - 1) % 2

    def to_meta(self) -> dict[str, Any]:
        """nanochat's `model_config`: what the weights tell by themselves is left out."""
        values = asdict(self)
        del values["generation"], values["padded_vocab_size"]
        if self.generation == "A":  # its nanochat has no such argument
            del values["window_pattern"]
        return values
