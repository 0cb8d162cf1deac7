"""Matrices of fp32 in 28 bits a weight, for chats on a CPU: an eighth less memory and reading, and the very same bits.

Most of a weight's exponent says nothing new: those of a row differ little (c/compact.h). For one reply at a time, which
waits for memory; several at once wait for the processor, and would take longer. Only the compiled decode step reads
that form: torch's operators expand a whole matrix first, each time.
"""

import contextlib
import ctypes
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat_core.checkpoint.few_bits import replace_matrices
from nanochat_core.checkpoint.mapped_files import MappedReader
from nanochat_core.compute.huge_pages import HugePages
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.model.shape import is_table
from nanochat_core.native.build import library

CHUNK, ODD_BYTES = 64, 36
"""Weights that lie together; what the notes have of a chunk that does not fit the table of its row."""
_pointer, _count = ctypes.c_void_p, ctypes.c_int64


class CompactLinear(nn.Module):
    """A matrix (outputs, inputs) without bias, inputs a multiple of 64.

    `weight`: int16 (outputs, inputs * 7 / 4), `scales`: its notes, int64, as c/compact.h has both.
    """

    scales: Tensor

    def __init__(self, outputs: int, inputs: int, memory: HugePages):
        super().__init__()
        self.outputs, self.inputs = outputs, inputs
        weight = memory.zeros(torch.Size((outputs, inputs // 4 * 7)), torch.int16)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scales", torch.empty(0, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """x times the transposed matrix, in the type of x."""
        return F.linear(x, self.cast(x.dtype))

    def cast(self, dtype: torch.dtype) -> Tensor:
        """The whole matrix in `dtype`, as `Linear` has it."""
        rows = torch.empty(self.outputs, self.inputs)
        pointers = (self.weight.data_ptr(), self.scales.data_ptr())
        _compiled().expand_rows(*pointers, 0, self.outputs, self.inputs, rows.data_ptr())
        return rows.to(dtype)


def pays(config: GPTConfig) -> bool:
    """Whether this machine writes one reply of a model of this shape sooner from that form."""
    fits = config.n_embd % CHUNK == 0 and config.head_dim % 16 == 0  # else it is nothing for the decode step
    return fits and library("compact") is not None and bool(_compiled().compact_pays())


def make_compact(model: GPT, mapped: bool = False) -> GPT:
    """Hold the matrices of a model on a CPU in 28 bits, in place, for inference only. Returns the model.

    One after the other, each a piece at a time: there are never both forms of the model. All else becomes fp32, but
    tables in bf16 stay, of which few rows are ever read. `mapped`: they are mapped from a file and were never written
    to, so that they are read from there.
    """
    assert model.device.type == "cpu"
    memory = HugePages()
    with MappedReader() if mapped else contextlib.nullcontext() as reader:
        replace_matrices(model, lambda matrix: compact(matrix, memory, reader))
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not (is_table(name) and parameter.dtype == torch.bfloat16):
            parameter.data = parameter.data.float()
    return model.requires_grad_(requires_grad=False)


def compact(matrix: Tensor, memory: HugePages, reader: MappedReader | None) -> CompactLinear:
    """A matrix (outputs, inputs) in any type of floats as fp32 in 28 bits. reader: reads it from its file."""
    made = CompactLinear(matrix.shape[0], matrix.shape[1], memory)
    notes = torch.empty(made.outputs, dtype=torch.int64)
    odd: dict[int, Tensor] = {}

    def make(rows: slice, block: Tensor) -> None:
        block = block.float().contiguous()
        room = torch.empty(len(block) * (made.inputs // CHUNK + 1), ODD_BYTES, dtype=torch.uint8)
        pointers = (block.data_ptr(), made.weight.data_ptr(), notes.data_ptr(), room.data_ptr())
        count = _compiled().make_compact(*pointers, len(block), made.inputs, rows.start)
        odd[rows.start] = room[:count].clone()

    if reader:
        reader.share_out(matrix, make)
    else:
        make(slice(0, made.outputs), matrix)
    place = notes.nbytes
    for first, end in pairwise([*sorted(odd), made.outputs]):  # threads found them in any order
        notes[first:end] += place << 8
        place += odd[first].nbytes
    parts = [notes.view(torch.uint8), *(odd[first].flatten() for first in sorted(odd))]
    made.scales = F.pad(torch.cat(parts), (0, -place % 8)).view(torch.int64)
    return made


def _compiled() -> ctypes.CDLL:
    compiled = library("compact")
    assert compiled is not None, "asked for by `pays`"
    compiled.make_compact.argtypes, compiled.make_compact.restype = [*[_pointer] * 4, *[_count] * 3], _count
    compiled.expand_rows.argtypes, compiled.expand_rows.restype = [*[_pointer] * 2, *[_count] * 3, _pointer], None
    compiled.compact_pays.restype = _count
    return compiled
