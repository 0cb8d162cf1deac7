"""Rounding to eight or four bits: compiled and by torch's operators to the bit the same, whatever threads there are."""

import ctypes

import pytest
import torch

from nanochat_core.checkpoint import few_bits
from nanochat_core.checkpoint.few_bits import FewBitsLinear
from nanochat_core.compute.huge_pages import HugePages
from nanochat_core.native import build

BITS = few_bits.BITS.values()


def _matrix(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)) * 0.02
    for row, value in enumerate((0.0, 1e-38, 1e30, -127.5, 1e-32)):
        matrix[row % rows, row % columns] = value
    matrix[rows // 2] = 0.0
    return matrix.to(dtype)


def _rounded(matrix: torch.Tensor, bits: int) -> FewBitsLinear:
    return few_bits._Rounding(HugePages(), None, bits).of(matrix)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (37, 129), (100, 512), (1000, 48)])
def test_compiled_and_torch_give_the_same_bits(monkeypatch, dtype, rows, columns, bits):
    matrix = _matrix(rows, columns, dtype)
    compiled = _rounded(matrix, bits)
    monkeypatch.setattr(few_bits, "library", lambda name, **mirrored: None)
    monkeypatch.setattr(few_bits, "ROUNDED_BYTES", 1)  # a strip at a time
    torchs = _rounded(matrix, bits)
    assert torch.equal(compiled.weight, torchs.weight)
    assert torch.equal(compiled.scales, torchs.scales)
    off = (compiled.rows()[:rows] - matrix.float()).abs()
    if bits == 8:  # nothing is farther than half a step from what it was
        assert (off <= 0.5 * compiled.scales[:rows, None] * 1.0001).all()
        return
    scales = compiled.scales.float().abs().permute(0, 2, 1).flatten(0, 1)[:rows].repeat_interleave(32, 1)[:, :columns]
    assert (off <= 2 * scales + 1e-30).all()  # what is cut to the range
    assert off.double().norm() <= 0.1 * matrix.double().norm()


@pytest.mark.parametrize("bits", BITS)
def test_rows_are_what_a_product_multiplies_with(bits):
    matrix = _rounded(torch.randn(37, 129, generator=torch.Generator().manual_seed(1)), bits)
    x = torch.randn(3, 129, generator=torch.Generator().manual_seed(0))
    assert matrix(x).shape == (3, 37)
    exact = x @ matrix.rows()[:37].T
    assert 1e-4 < (matrix(x) - exact).norm() / exact.norm() < 0.01  # the vector has eight bits
    assert torch.equal(matrix.rows(1, 2), matrix.rows()[16:32])
    assert not matrix.rows()[37:].any()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), -float("nan"), float("inf")])
def test_what_is_no_number_is_not_lost(monkeypatch, dtype, value, bits):
    matrix = _matrix(40, 64, dtype)
    matrix[7, 11] = value
    for _ in range(2):
        rows = _rounded(matrix, bits).rows()
        assert not rows[7, 11].isfinite()
        assert rows[torch.arange(len(rows)) != 7].isfinite().all()
        monkeypatch.setattr(few_bits, "library", lambda name, **mirrored: None)


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


@pytest.mark.parametrize("bits", BITS)
def test_a_matrix_that_is_not_contiguous_or_in_another_dtype_is_rounded_too(bits):
    matrix = _matrix(64, 48, torch.float32)
    for other in (matrix.T.contiguous().T, matrix.double()):
        assert torch.equal(_rounded(other, bits).weight, _rounded(matrix, bits).weight)
