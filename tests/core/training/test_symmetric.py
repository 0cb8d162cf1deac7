"""Symmetric products against fp64."""

import pytest
import torch

from nanochat_core.training.symmetric import Buffers, commuting, gram, polynomial

SHAPES = [(16, 16), (64, 256), (256, 64), (512, 512), (4, 64), (392, 400), (48, 1040)]
ROUNDING = 2**-8
"""bf16's largest relative error."""


def _matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).bfloat16()


def _symmetric_matrix(size: int) -> torch.Tensor:
    half = _matrix(size, size) / size**0.5
    return (half + half.T).contiguous()


def _assert_rounded(found: torch.Tensor, exact: torch.Tensor) -> None:
    """Equal but for one rounding; for sums that cancel, of the largest entry in fp32."""
    assert torch.equal(found, found.mT)
    assert ((found.double() - exact).abs() <= ROUNDING * exact.abs() + 1e-5 * exact.abs().max()).all()


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_a_gram_matrix(rows, columns):
    x = _matrix(rows, columns)
    size = min(rows, columns)
    out = torch.full((size, size), torch.nan, dtype=torch.bfloat16)
    gram(x, out)
    wide = (x if rows <= columns else x.T).double()
    _assert_rounded(out, wide @ wide.T)


@pytest.mark.parametrize("size", [4, 16, 208, 400, 512])
def test_products_of_commuting_matrices(size):
    matrix = _symmetric_matrix(size)
    square, cube = (torch.full_like(matrix, torch.nan) for _ in range(2))
    commuting(matrix, matrix, square)
    _assert_rounded(square, matrix.double() @ matrix.double())
    commuting(square, matrix, cube)  # its factors, once rounded, commute but nearly
    assert (cube.double() - square.double() @ matrix.double()).norm() < ROUNDING * cube.double().norm()


@pytest.mark.parametrize("size", [4, 16, 208, 400, 512])
def test_a_polynomial_is_rounded_once_on_its_diagonal(size):
    matrix = _symmetric_matrix(size)
    matrix.diagonal().copy_(torch.linspace(0.3, 1.2, size))
    out = torch.full_like(matrix, torch.nan)
    polynomial(matrix, 3.4445, -4.7750, 2.0315, out)
    wide = matrix.double()
    exact = 3.4445 * torch.eye(size) - 4.7750 * wide + 2.0315 * wide @ wide
    assert torch.equal(out, out.T)
    diagonal = exact.diagonal()
    assert ((out.double().diagonal() - diagonal).abs() <= ROUNDING * diagonal.abs() + 1e-5).all()
    assert (out.double() - exact).norm() < ROUNDING * exact.norm()


def test_a_stack_is_each_of_its_matrices():
    stack = torch.stack([_matrix(400, 800, seed) for seed in range(3)])
    together, alone = torch.empty(3, 400, 400).bfloat16(), torch.empty(400, 400).bfloat16()
    gram(stack, together)
    for x, found in zip(stack, together):
        gram(x, alone)
        assert torch.allclose(found, alone, rtol=ROUNDING, atol=1e-3)


def test_kept_memory_is_used_again():
    kept = Buffers()
    large = kept.take("x", (4, 8), torch.float32, torch.device("cpu"))
    small = kept.take("x", (3, 5), torch.float32, torch.device("cpu"))
    assert small.data_ptr() == large.data_ptr()
    assert kept.take("y", (3, 5), torch.float32, torch.device("cpu")).data_ptr() != large.data_ptr()
