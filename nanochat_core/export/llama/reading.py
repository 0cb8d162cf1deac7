"""What a program that follows llama.cpp's architecture computes from an exported file, computed here.

The file itself is read, its quantized weights included, a layer at a time: a model of any size needs the memory of one
layer and of the head. Only the rounding of activations, which differs from program to program, is not llama.cpp's own.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from torch import Tensor

from nanochat_core.export.llama.weights import LAYER_NAMES, turned_rows
from nanochat_core.model.attention import Layout
from nanochat_core.model.blocks import Block, Context
from nanochat_core.model.functions import RotaryTable, norm
from nanochat_core.model.shape import GENERATIONS, GPTConfig

_ROWS = 4096
"""Rows of a matrix that are dequantized at once."""


class GgufModel:
    """The model of one file, whose shape is `config`. Computes in fp32 and, as llama.cpp, with unrounded angles."""

    def __init__(self, path: Path, config: GPTConfig):
        self._config = config
        self._tensors = {tensor.name: tensor for tensor in GGUFReader(path, "c").tensors}
        unrounded = replace(GENERATIONS[config.generation], rounds_rotary=False)
        self._rotary = RotaryTable(unrounded, config.head_dim, config.sequence_len)

    @torch.no_grad()
    def hidden(self, packs: Sequence[tuple[Tensor, list[int]]]) -> list[Tensor]:
        """The normed outputs (T, C) of the last block for each pack: ids (1, T) of conversations of these lengths."""
        layouts = [Layout.of(ids.shape, lengths) for ids, lengths in packs]
        contexts = [self._context(layout) for layout in layouts]
        streams = [self._embedded(ids) for ids, _ in packs]
        for layer in range(self._config.n_layer):
            block = self._block(layer)
            streams = [block(stream, None, context) for stream, context in zip(streams, contexts)]
        return [norm(stream)[0] for stream in streams]

    def head(self) -> Tensor:
        """The matrix (V, C) from the hidden states to the logits, in fp32."""
        return self._matrix("output.weight")

    def _context(self, layout: Layout) -> Context:
        cos, sin = self._rotary.of(layout.longest, torch.device("cpu"))
        return Context(cos[layout.positions][:, :, None], sin[layout.positions][:, :, None], layout=layout)

    def _embedded(self, ids: Tensor) -> Tensor:
        known, places = ids.unique(return_inverse=True)
        table = self._tensors["token_embd.weight"]
        return F.embedding(places, torch.from_numpy(_dequantized(table, known.numpy())))

    def _block(self, layer: int) -> Block:
        with torch.device("meta"):
            block = Block(self._config, layer)
        for ours, theirs in LAYER_NAMES.items():
            weight = self._matrix(f"blk.{layer}.{theirs}.weight")
            if ours in ("attn.c_q", "attn.c_k"):
                weight = weight[turned_rows(len(weight), self._config.head_dim)]
            block.get_submodule(ours).weight = torch.nn.Parameter(weight, requires_grad=False)
        return block

    def _matrix(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        if tensor.data.dtype == np.float32:
            return torch.from_numpy(np.asarray(tensor.data))
        height = len(tensor.data)
        pieces = (slice(start, start + _ROWS) for start in range(0, height, _ROWS))
        matrix = torch.empty(height, int(tensor.shape[0]))
        for rows in pieces:
            matrix[rows] = torch.from_numpy(_dequantized(tensor, rows))
        return matrix


def _dequantized(tensor: ReaderTensor, rows: slice | np.ndarray) -> np.ndarray:
    """Some rows of a tensor in fp32."""
    return np.array(dequantize(np.ascontiguousarray(tensor.data[rows]), tensor.tensor_type), np.float32)
