"""Weights in eight bits: a quarter of fp32's memory and reading, for chats on a CPU.

Each row of a matrix is rounded to multiples of its largest element / 127; the products are computed from those. The
embedding tables, of which a token reads one row, stay in bf16, and the few learned scalars and gates as they are.
"""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat_core.huge_pages import HugePages
from nanochat_core.mapped_files import MappedReader
from nanochat_core.model import GPT, Linear

PIECE_BYTES = 1 << 20
"""Of weights that are rounded, or turned back into floats for torch, at once."""


class Int8Linear(nn.Module):
    """A matrix without bias, in eight bits: `weight` int8 (outputs, inputs) times `scales` fp32 (outputs,)."""

    def __init__(self, weight: Tensor, memory: HugePages, reader: MappedReader | None):
        """Of a float matrix (outputs, inputs), which is read once, a piece at a time; by `reader` if it is mapped."""
        super().__init__()
        rounded, scales = memory.zeros(weight.shape, torch.int8), torch.empty(len(weight))
        for rows, block in reader.blocks(weight) if reader else [(slice(None), weight)]:
            _round(block, rounded[rows], scales[rows])
        self.weight = nn.Parameter(rounded, requires_grad=False)
        self.register_buffer("scales", scales)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., inputs) to (..., outputs) in the dtype of x: by pieces, so that there is never a whole float copy."""
        pieces = [F.linear(x, self.weight[rows].to(x.dtype)) for rows in _pieces(self.weight)]
        return torch.cat(pieces, -1) * self.scales.to(x.dtype)


def quantize_int8(model: GPT, mapped: bool = False) -> GPT:
    """Round the matrices of a model on a CPU to eight bits, in place, for inference only. Returns the model.

    `mapped`: they are mapped from a file and were never written to, so that they are read from there.
    """
    assert model.device.type == "cpu"
    memory = HugePages()
    with MappedReader() if mapped else contextlib.nullcontext() as reader:
        for owner in list(model.modules()):
            for name, module in list(owner.named_children()):
                if isinstance(module, Linear) and not name.endswith("gate"):
                    setattr(owner, name, Int8Linear(module.weight.detach(), memory, reader))
                elif isinstance(module, nn.Embedding):
                    module.weight = nn.Parameter(module.weight.detach().bfloat16(), requires_grad=False)
    model.decoder = None  # it knows the former modules
    return model.requires_grad_(False)


def _round(matrix: Tensor, rounded: Tensor, scales: Tensor) -> None:
    """Write the rows of `matrix` in eight bits, and the scale of each: a piece at a time, which stays in the cache."""
    for rows in _pieces(matrix):
        piece = matrix[rows].float()
        scales[rows] = piece.abs().amax(1).clamp(min=1e-30) / 127
        rounded[rows] = (piece / scales[rows, None]).round_()


def _pieces(weight: Tensor) -> list[slice]:
    rows = max(1, PIECE_BYTES // (4 * weight.shape[1]))
    return [slice(begin, begin + rows) for begin in range(0, len(weight), rows)]
