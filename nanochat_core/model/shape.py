"""The shape of a model: the `model_config` of nanochat's checkpoints, and what their weights add to that."""

from dataclasses import asdict, dataclass
from typing import Any

from nanochat_core.model.generations import GENERATIONS


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
