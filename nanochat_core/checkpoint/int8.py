"""Weights in eight bits: a quarter of fp32's memory and reading, for chats on a CPU.

Each row of a matrix is rounded to multiples of its largest element / 127; the products are computed from those. The
embedding tables, of which a token reads one row, stay in bf16, and the few learned scalars and gates as they are.
"""

import contextlib
import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat_core.checkpoint.mapped_files import MappedReader
from nanochat_core.compute.huge_pages import HugePages
from nanochat_core.model.blocks import Linear
from nanochat_core.model.gpt import GPT
from nanochat_core.native.build import library

PIECE_BYTES = 1 << 20
"""So many bytes of weights are turned back into floats for torch at once."""
ROUNDED_BYTES = 4 << 20
"""So many bytes of floats are rounded at once."""
_COMPILED = (torch.float32, torch.bfloat16)


class Int8Linear(nn.Module):
    """A matrix without bias, in eight bits: `weight` int8 (outputs, inputs) times `scales` fp32 (outputs,)."""

    scales: Tensor

    def __init__(self, rounded: Tensor, scales: Tensor):
        super().__init__()
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
    with MappedReader() if mapped else contextlib.nullcontext() as reader:
        rounding = _Rounding(HugePages(), reader)
        for owner in list(model.modules()):
            for name, module in list(owner.named_children()):
                if isinstance(module, Linear) and not name.endswith("gate"):
                    setattr(owner, name, rounding.of(module.weight.detach()))
                elif isinstance(module, nn.Embedding):
                    module.weight = nn.Parameter(module.weight.detach().bfloat16(), requires_grad=False)
    model.decoder = None  # it knows the former modules
    return model.requires_grad_(requires_grad=False)


class _Request(ctypes.Structure):
    """`request` of c/quantize.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("from", "to", "scales")),
        *((name, ctypes.c_int64) for name in ("rows", "columns", "is_bf16", "threads")),
    ]


class _Rounding:
    """Rounds one matrix after the other, each read once, a piece at a time, which stays in the processor's cache.

    By compiled code where there is some: one pass, and no thread waits for another that has lost its core. Torch's
    operators give the same bits.
    """

    def __init__(self, memory: HugePages, reader: MappedReader | None):
        self._memory, self._reader = memory, reader
        self._compiled = library("quantize", request=_Request)
        # Kept: given back and asked for again, pieces of this size leave holes in malloc's heap, 650 MB of them at d32.
        self._floats = torch.empty(ROUNDED_BYTES // 4)

    def of(self, matrix: Tensor) -> Int8Linear:
        rounded, scales = self._memory.zeros(matrix.shape, torch.int8), torch.empty(len(matrix))
        is_compiled = self._compiled and matrix.dtype in _COMPILED and matrix.is_contiguous()
        if is_compiled and self._reader:
            self._reader.share_out(
                matrix, lambda rows, block: self._round_compiled(block, rounded[rows], scales[rows], threads=1)
            )
        elif is_compiled:
            self._round_compiled(matrix, rounded, scales, torch.get_num_threads())
        else:
            for rows, block in self._reader.blocks(matrix) if self._reader else [(slice(None), matrix)]:
                self._round(block, rounded[rows], scales[rows])
        return Int8Linear(rounded, scales)

    def _round_compiled(self, matrix: Tensor, rounded: Tensor, scales: Tensor, threads: int) -> None:
        pointers = (tensor.data_ptr() for tensor in (matrix, rounded, scales))
        request = _Request(*pointers, *matrix.shape, matrix.dtype == torch.bfloat16, threads)
        assert self._compiled is not None
        self._compiled.quantize(ctypes.byref(request))

    def _round(self, matrix: Tensor, rounded: Tensor, scales: Tensor) -> None:
        for rows in _pieces(matrix, ROUNDED_BYTES):
            stored = matrix[rows]
            piece = self._floats[: stored.numel()].view(stored.shape).copy_(stored)
            largest = torch.maximum(piece.amax(1), -piece.amin(1))
            scales[rows] = largest.clamp_(min=1e-30).div_(127)
            rounded[rows] = piece.div_(scales[rows, None]).round_()


def _pieces(weight: Tensor, size: int = PIECE_BYTES) -> list[slice]:
    rows = max(1, size // (4 * weight.shape[1]))
    return [slice(begin, begin + rows) for begin in range(0, len(weight), rows)]
