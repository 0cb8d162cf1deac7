"""How a GGUF file can hold the weights, and how large that makes it. Without torch: the app asks before an export."""

from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from nanochat_core.model.shape import GPTConfig


@dataclass(frozen=True)
class Quant:
    """One way to hold the weights."""

    name: str
    """As --quant takes it."""
    matrices: GGMLQuantizationType
    file_type: LlamaFileType
    words: str
    """What a person should know of it."""

    @property
    def label(self) -> str:
        """As file names on the hub say it; Ollama finds it there."""
        return self.name.upper()

    @property
    def bytes_per_weight(self) -> float:
        weights, size = GGML_QUANT_SIZES[self.matrices]
        return size / weights


_TYPES, _FILES = GGMLQuantizationType, LlamaFileType
QUANTS = {
    quant.name: quant
    for quant in (
        Quant("f32", _TYPES.F32, _FILES.ALL_F32, "the weights as they were trained"),
        Quant("bf16", _TYPES.BF16, _FILES.MOSTLY_BF16, "half the size, hardly any loss"),
        Quant("q8_0", _TYPES.Q8_0, _FILES.MOSTLY_Q8_0, "a quarter of the size, little loss: the usual choice"),
        Quant("q5_0", _TYPES.Q5_0, _FILES.MOSTLY_Q5_0, "for small machines, at a price in quality"),
        Quant("q4_0", _TYPES.Q4_0, _FILES.MOSTLY_Q4_0, "the smallest, at the highest price in quality"),
    )
}
"""From the largest to the smallest. Never F16: relu squared overflows it."""

DEFAULT = "q8_0"


def quant_named(name: str | None) -> Quant:
    """The quantization that a person calls `name`; None is the usual one. ValueError for a name that is none."""
    if name is None:
        return QUANTS[DEFAULT]
    if name not in QUANTS:
        raise ValueError(f"There is no quantization '{name}'. Use one of {', '.join(QUANTS)}.")
    return QUANTS[name]


def fits(config: GPTConfig, quant: Quant) -> bool:
    """Whether the rows of the model's matrices hold whole blocks."""
    return config.n_embd % GGML_QUANT_SIZES[quant.matrices][0] == 0


def weights_read(config: GPTConfig) -> int:
    """Weights that one token of a reply goes through: all but the embedding table, of which it takes a row."""
    width, heads = config.n_embd, (2 * config.n_head + 2 * config.n_kv_head) * config.head_dim
    return config.n_layer * (width * heads + 8 * width * width) + config.vocab_size * width


def file_bytes(config: GPTConfig, quant: Quant) -> int:
    """Size of the tensors in the file; the tokenizer and the rest come to less than a hundredth of a d20."""
    return round((weights_read(config) + config.vocab_size * config.n_embd) * quant.bytes_per_weight)
