"""Rounding to eight bits: compiled and by torch's operators to the bit the same, however many threads there are."""

import ctypes

import pytest
import torch

from nanochat_core.checkpoint import int8
from nanochat_core.checkpoint.int8 import Int8Linear
from nanochat_core.compute.huge_pages import HugePages
from nanochat_core.native import build


def _matrix(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)) * 0.02
    for row, value in enumerate((0.0, 1e-38, 1e30, -127.5, 1e-32)):
        matrix[row % rows, row % columns] = value
    matrix[rows // 2] = 0.0
    return matrix.to(dtype)


def _rounded(matrix: torch.Tensor) -> Int8Linear:
    return int8._Rounding(HugePages(), None).of(matrix)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (37, 129), (100, 512), (1000, 48)])
def test_compiled_and_torch_give_the_same_bits(monkeypatch, dtype, rows, columns):
    matrix = _matrix(rows, columns, dtype)
    compiled = _rounded(matrix)
    monkeypatch.setattr(int8, "library", lambda name, **mirrored: None)
    torchs = _rounded(matrix)
    assert torch.equal(compiled.weight, torchs.weight)
    assert torch.equal(compiled.scales, torchs.scales)
    halves = 0.5 * compiled.scales[:, None]  # nothing is farther than half a step from what it was
    off = (compiled.weight * compiled.scales[:, None] - matrix.float()).abs()
    assert (off <= halves * 1.0001).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), -float("nan")])
def test_a_nan_is_not_lost(monkeypatch, dtype, value):
    matrix = _matrix(40, 64, dtype)
    matrix[7, 11] = value
    for _ in range(2):
        scales = _rounded(matrix).scales
        assert scales.isnan().nonzero().flatten().tolist() == [7]
        monkeypatch.setattr(int8, "library", lambda name, **mirrored: None)


def test_narrowing_to_bf16_is_torchs_at_every_kind_of_number():
    compiled = build.library("quantize")
    if compiled is None:  # then it is torch's own
        return
    bits = torch.cat([torch.arange(-(1 << 31), 1 << 31, 65_521), torch.tensor([0x3F808000, 0x3F818000, 0x7F7FFFFF])])
    wide = bits.to(torch.int32).view(torch.float32)
    found = torch.empty(len(wide), dtype=torch.bfloat16)
    pointers = (ctypes.c_void_p(each.data_ptr()) for each in (wide, found))
    compiled.narrow(*pointers, ctypes.c_int64(len(wide)))
    number = ~wide.isnan()
    assert torch.equal(found[number].view(torch.int16), wide[number].bfloat16().view(torch.int16))
    assert found[~number].isnan().all()


def test_a_matrix_that_is_not_contiguous_or_in_another_dtype_is_rounded_too():
    matrix = _matrix(64, 48, torch.float32)
    for other in (matrix.T.contiguous().T, matrix.double()):
        assert torch.equal(_rounded(other).weight, _rounded(matrix).weight)
