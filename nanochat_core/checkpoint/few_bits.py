"""Weights in eight or four bits: a quarter or a seventh of fp32's memory and reading, for chats on a CPU.

int8: each row of a matrix is rounded to multiples of its largest element / 127. int4: every 32 elements of a row to
-8 to 7 times a scale in bf16, of some the one with the smallest squared error: 4.5 bits for each weight. The
embedding tables, of which a token reads one row, stay in bf16, and the few learned scalars and gates as they are.
"""

import contextlib
import ctypes
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat_core.checkpoint.mapped_files import MappedReader
from nanochat_core.compute.huge_pages import HugePages
from nanochat_core.model.blocks import Linear
from nanochat_core.model.gpt import GPT
from nanochat_core.native.build import library

INT4: torch.dtype = vars(torch)["int4"]  # its type stubs do not know it
BITS = {torch.int8: 8, INT4: 4}
"""What a model can be rounded to."""
STRIP, GROUP = 16, 32
"""Rows that lie together, inputs that share a scale in four bits, as in c/strips.h."""
TRIED = (-8.0, -9.0, -7.5, -7.0, -6.5, 6.5, 7.0, 8.0)
"""What the largest element of a group may become in four bits, before it is cut to their range."""
PIECE_BYTES = 1 << 20
"""So many bytes of weights are turned back into floats for torch at once."""
ROUNDED_BYTES = 4 << 20
"""So many bytes of floats are rounded at once."""
_SMALLEST = 1e-30
_COMPILED = (torch.float32, torch.bfloat16)


class FewBitsLinear(nn.Module):
    """A matrix (outputs, inputs) without bias, in strips of 16 rows as c/strips.h has them, zeros beyond its edges.

    `weight`: in eight bits int8 (strips, inputs / 4, 16, 4), `scales` fp32 (strips * 16). In four bits uint8 (strips,
    inputs / 32, 4, 16, 4), two numbers plus 8 in each, and `scales` bf16 (strips, inputs / 32, 16).
    """

    scales: Tensor

    def __init__(self, outputs: int, inputs: int, bits: int, memory: HugePages):
        super().__init__()
        self.outputs, self.inputs, self.bits = outputs, inputs, bits
        strips, groups = -(-outputs // STRIP), -(-inputs // GROUP)
        if bits == 8:
            weight = memory.zeros(torch.Size((strips, groups * GROUP // 4, STRIP, 4)), torch.int8)
            scales = memory.zeros(torch.Size((strips * STRIP,)), torch.float32)
        else:
            weight = memory.zeros(torch.Size((strips, groups, 4, STRIP, 4)), torch.uint8)
            scales = memory.zeros(torch.Size((strips, groups, STRIP)), torch.bfloat16)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scales", scales)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., inputs) to (..., outputs) in the dtype of x: by pieces, so that there is never a whole float copy.

        x is rounded to eight bits first, as the compiled products have it.
        """
        x = _in_eight_bits(x)
        strips = max(1, PIECE_BYTES // (4 * STRIP * self.inputs))
        pieces = [
            F.linear(x, self.rows(begin, begin + strips).to(x.dtype)) for begin in range(0, len(self.weight), strips)
        ]
        return torch.cat(pieces, -1)[..., : self.outputs]

    def cast(self, dtype: torch.dtype) -> Tensor:
        """The whole matrix in `dtype`, as `Linear` has it."""
        return self.rows()[: self.outputs].to(dtype)

    def rows(self, begin: int = 0, end: int | None = None) -> Tensor:
        """The weights as they count, fp32 (rows, inputs), of the strips `begin` to `end`; of all, padded."""
        packed = self.weight[begin:end]
        if self.bits == 8:
            whole = packed.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
            scales = self.scales.view(-1, STRIP)[begin:end].flatten()[:, None]
            return whole[:, : self.inputs] * scales
        halves = torch.stack((packed & 15, packed >> 4), 2)  # (strips, groups, half, 4, 16, 4)
        whole = halves.permute(0, 4, 1, 2, 3, 5).flatten(3).float() - 8
        scaled = whole * self.scales[begin:end].float().permute(0, 2, 1)[..., None]
        return scaled.flatten(2).flatten(0, 1)[:, : self.inputs]


def quantize(model: GPT, dtype: torch.dtype, mapped: bool = False) -> GPT:
    """Round the matrices of a model on a CPU to int8 or int4, in place, for inference only. Returns the model.

    `mapped`: they are mapped from a file and were never written to, so that they are read from there.
    """
    assert model.device.type == "cpu"
    with MappedReader() if mapped else contextlib.nullcontext() as reader:
        rounding = _Rounding(HugePages(), reader, BITS[dtype])
        replace_matrices(model, rounding.of)
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.weight = nn.Parameter(module.weight.detach().bfloat16(), requires_grad=False)
    return model.requires_grad_(requires_grad=False)


def replace_matrices(model: GPT, by: Callable[[Tensor], nn.Module]) -> None:
    """Hold each matrix of a model in the module that `by` makes of it, one after the other; gates stay as they are."""
    for owner in list(model.modules()):
        for name, module in list(owner.named_children()):
            if isinstance(module, Linear) and not name.endswith("gate"):
                setattr(owner, name, by(module.weight.detach()))
    model.decoder = None  # it knows the former modules


def _in_eight_bits(x: Tensor) -> Tensor:
    """x (..., inputs), each GROUP of its numbers in 127ths of its largest: `pack_whole` of c/pack.h."""
    groups = F.pad(x, (0, -x.shape[-1] % GROUP)).float().unflatten(-1, (-1, GROUP))
    largest = groups.abs().amax(-1, keepdim=True).clamp(min=_SMALLEST)
    rounded = (groups * (127 / largest)).round_() * (largest / 127)
    return rounded.flatten(-2)[..., : x.shape[-1]].to(x.dtype)


class _Request(ctypes.Structure):
    """`request` of c/quantize.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("from", "to", "scales", "tried")),
        *((name, ctypes.c_int64) for name in ("first", "rows", "columns", "is_bf16", "bits", "threads")),
    ]


class _Rounding:
    """Rounds one matrix after the other, each read once, a piece at a time, which stays in the processor's cache.

    By compiled code where there is some: one pass, and no thread waits for another that has lost its core. Torch's
    operators give the same bits.
    """

    def __init__(self, memory: HugePages, reader: MappedReader | None, bits: int):
        self._memory, self._reader, self._bits = memory, reader, bits
        self._compiled = library("quantize", request=_Request)
        self._tried = torch.tensor(TRIED)

    def of(self, matrix: Tensor) -> FewBitsLinear:
        rounded = FewBitsLinear(matrix.shape[0], matrix.shape[1], self._bits, self._memory)
        is_compiled = self._compiled and matrix.dtype in _COMPILED and matrix.is_contiguous()
        if is_compiled and self._reader:
            self._reader.share_out(matrix, lambda rows, block: self._round_compiled(block, rounded, rows.start, 1))
        elif is_compiled:
            self._round_compiled(matrix, rounded, 0, torch.get_num_threads())
        else:
            size = max(1, ROUNDED_BYTES // (4 * STRIP * matrix.shape[1])) * STRIP
            for begin in range(0, len(matrix), size):
                self._round(matrix[begin : begin + size].float(), rounded, begin)
        return rounded

    def _round_compiled(self, matrix: Tensor, rounded: FewBitsLinear, first: int, threads: int) -> None:
        pointers = (tensor.data_ptr() for tensor in (matrix, rounded.weight, rounded.scales, self._tried))
        request = _Request(*pointers, first, *matrix.shape, matrix.dtype == torch.bfloat16, self._bits, threads)
        assert self._compiled is not None
        self._compiled.quantize(ctypes.byref(request))

    def _round(self, matrix: Tensor, rounded: FewBitsLinear, first: int) -> None:
        """Rows of fp32 from `first` on, the first one of a strip."""
        rows, columns = matrix.shape
        padded = F.pad(matrix, (0, -columns % GROUP, 0, -rows % STRIP))
        strips = slice(first // STRIP, first // STRIP + len(padded) // STRIP)
        if self._bits == 8:
            largest = torch.maximum(padded.amax(1), -padded.amin(1))
            scales = largest.clamp_(min=_SMALLEST).div_(127)
            scales[rows:] = 0
            rounded.scales.view(-1, STRIP)[strips] = scales.view(-1, STRIP)
            whole = (padded / scales.clamp(min=_SMALLEST / 127)[:, None]).round_().to(torch.int8)
            rounded.weight[strips] = whole.view(-1, STRIP, padded.shape[1] // 4, 4).permute(0, 2, 1, 3)
            return
        groups = padded.view(len(padded), -1, GROUP)
        scales = self._best_scales(groups)
        inverse = torch.where(scales == 0, 0, 1 / scales)
        whole = ((groups * inverse[..., None]).round_().clamp_(-8, 7).nan_to_num_(-8) + 8).to(torch.uint8)
        whole[rows:] = 0
        halves = whole.view(-1, STRIP, groups.shape[1], 2, 4, 4).permute(3, 0, 2, 4, 1, 5)
        rounded.weight[strips] = halves[0] | halves[1] << 4
        rounded.scales[strips] = scales.bfloat16().view(-1, STRIP, groups.shape[1]).permute(0, 2, 1)

    def _best_scales(self, groups: Tensor) -> Tensor:
        """The scales (rows, groups) for groups (rows, groups, 32): see `best_scale` of c/quantize.c."""
        sizes = groups.abs().view(torch.int32)  # in the order of the numbers, and a NaN's above all
        most = groups.gather(2, sizes.argmax(2, keepdim=True))
        scales = (most / self._tried).bfloat16().float()  # (rows, groups, choices)
        inverse = 1 / scales
        errors = torch.zeros(scales.shape, dtype=torch.float64)
        for column in groups.unbind(2):
            whole = (column[..., None] * inverse).round_().clamp_(-8, 7)
            errors += (whole * scales - column[..., None]).double().square_()
        errors[..., 1:].nan_to_num_(torch.inf)  # then the first one's, as compiled code has it
        errors[..., 0].nan_to_num_(torch.finfo(torch.float64).max)
        best = scales.gather(2, errors.argmin(2, keepdim=True))
        return torch.where(most.abs() < _SMALLEST, 0, best)[..., 0]
