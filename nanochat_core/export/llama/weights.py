"""The weights as tensors of llama.cpp's architecture `apertus`, written one after the other.

That architecture computes what generation A of nanochat computes, but for the softcap of the logits, which it does not
have: norms before attention and MLP, a norm of q and k, rotary positions, no biases, an MLP of two matrices. What is
spelled differently:

- its activation xIELU is relu(x)^2 where softplus(alpha_p) = 1, softplus(alpha_n) = 0 and beta = 0;
- nanochat norms the embedding of a token before the first block: the table is stored with its rows normed;
- nanochat turns q and k the other way round: the halves of each head's rows change places in both, which leaves every
  product of a query and a key as it is;
- nanochat's norms have no weights: they are ones. The norm of q and k comes after the turn there and before it here; a
  norm does not see a turn.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quant_shape_to_byte_shape, quantize
from torch import Tensor

from nanochat_core.export.llama.quants import Quant, fits
from nanochat_core.model.functions import NORM_EPSILON
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import GENERATIONS, GPTConfig

ARCHITECTURE = "apertus"

_ROWS_BYTES = 32 << 20
"""fp32 weights that are converted at once: what a tensor needs beside its converted form."""

LAYER_NAMES = {
    "attn.c_q": "attn_q",
    "attn.c_k": "attn_k",
    "attn.c_v": "attn_v",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
"""nanochat's name of a layer's matrix -> GGUF's."""
_LAYER_NORMS = ("attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm")


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of the file. `rows` gives some of its rows: (n, width) in any precision; a vector is one row."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    rows: Callable[[slice], Tensor]


def check_expressible(config: GPTConfig, quant: Quant) -> None:
    """ValueError when llama.cpp has no architecture for such a model, or the quantization does not fit its width."""
    if config.generation != "A":
        raise ValueError(
            f"This model is of nanochat's generation {config.generation}, and llama.cpp has an architecture for "
            "generation A (of 2025) only: answer other programs with the command serve, or export it with --format "
            "nanochat."
        )
    if not fits(config, quant):
        raise ValueError(
            f"{quant.label} holds weights in blocks of 32, and a row of this model has {config.n_embd}. "
            "Use --quant bf16 or f32."
        )


def add_shape(writer: GGUFWriter, config: GPTConfig) -> None:
    """What llama.cpp must know of the architecture, as metadata of the file."""
    layers = config.n_layer
    writer.add_context_length(config.sequence_len)
    writer.add_vocab_size(config.vocab_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_block_count(layers)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_kv_head)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(GENERATIONS[config.generation].rope_base)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_xielu_alpha_p([math.log(math.e - 1)] * layers)
    writer.add_xielu_alpha_n([-1e4] * layers)
    writer.add_xielu_beta([0.0] * layers)
    writer.add_xielu_eps([-1e-6] * layers)


def gguf_tensors(model: GPT, quant: Quant) -> Iterator[GgufTensor]:
    """The tensors in the file's order. Rows that pad the vocabulary are left out: no token has them."""
    config, weights = model.config, dict(model.named_parameters())

    def matrix(name: str, weight: Tensor, rows: Callable[[slice], Tensor] | None = None) -> GgufTensor:
        plain = weight.detach()
        return GgufTensor(f"{name}.weight", tuple(weight.shape), quant.matrices, rows or (lambda which: plain[which]))

    def ones(name: str, size: int) -> GgufTensor:
        return GgufTensor(f"{name}.weight", (size,), GGMLQuantizationType.F32, lambda _: torch.ones(1, size))

    table = weights["transformer.wte.weight"].detach()[: config.vocab_size]
    yield matrix("token_embd", table, lambda which: F.rms_norm(table[which].float(), table.shape[1:], eps=NORM_EPSILON))
    for layer in range(config.n_layer):
        for norm in _LAYER_NORMS:
            yield ones(f"blk.{layer}.{norm}", config.head_dim if norm.endswith(("q_norm", "k_norm")) else config.n_embd)
        for ours, theirs in LAYER_NAMES.items():
            weight = weights[f"transformer.h.{layer}.{ours}.weight"].detach()
            turned = ours in ("attn.c_q", "attn.c_k")
            yield matrix(f"blk.{layer}.{theirs}", weight, _turned(weight, config.head_dim) if turned else None)
    yield ones("output_norm", config.n_embd)
    yield matrix("output", weights["lm_head.weight"][: config.vocab_size])


def turned_rows(rows: int, head_dim: int) -> Tensor:
    """The order (rows,) in which the two halves of each head have changed places; twice, it is as before."""
    return torch.arange(rows).view(-1, 2, head_dim // 2).flip(1).reshape(rows)


def _turned(weight: Tensor, head_dim: int) -> Callable[[slice], Tensor]:
    order = turned_rows(len(weight), head_dim)
    return lambda which: weight[order[which]]


def write_tensors(writer: GGUFWriter, model: GPT, quant: Quant) -> None:
    """Write the file that `writer` has been given the metadata of: no more than one converted tensor is in memory."""
    tensors = list(gguf_tensors(model, quant))
    for tensor in tensors:
        size = _stored_bytes(tensor)
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, tensor.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    while tensors:
        writer.write_tensor_data(_stored(tensors.pop(0)))
    writer.flush()


def _stored(tensor: GgufTensor) -> np.ndarray:
    """The tensor's bytes in the file, uint8, converted some rows at a time."""
    count = max(1, _ROWS_BYTES // (4 * tensor.shape[-1]))
    height = tensor.shape[0] if len(tensor.shape) > 1 else 1
    stored = np.empty(_stored_bytes(tensor), np.uint8)
    place = 0
    for start in range(0, height, count):
        rows = tensor.rows(slice(start, start + count)).float().contiguous().numpy()
        piece = quantize(rows, tensor.type).reshape(-1).view(np.uint8)
        stored[place : place + len(piece)] = piece
        place += len(piece)
    assert place == len(stored)
    return stored


def _stored_bytes(tensor: GgufTensor) -> int:
    *heights, width = quant_shape_to_byte_shape(tensor.shape, tensor.type)
    return math.prod([*heights, width])
