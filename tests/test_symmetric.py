"""Symmetric products, compiled and by torch, against fp64."""

import pytest
import torch

from nanochat_core import symmetric
from nanochat_core.symmetric import Buffers, SymmetricProducts

SHAPES = [(16, 16), (64, 256), (256, 64), (512, 512), (4, 64), (392, 400), (48, 1040)]
ROUNDING = 2**-8
"""bf16's largest relative error."""


@pytest.fixture(params=[True, False], ids=["compiled", "torch"])
def products(request) -> SymmetricProducts:
    return SymmetricProducts(Buffers(), compiled=request.param)


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
def test_a_gram_matrix(products, rows, columns):
    x = _matrix(rows, columns)
    size = min(rows, columns)
    out = torch.full((size, size), torch.nan, dtype=torch.bfloat16)
    products.gram(x, out)
    wide = (x if rows <= columns else x.T).double()
    _assert_rounded(out, wide @ wide.T)


@pytest.mark.parametrize("size", [4, 16, 208, 400, 512])
def test_products_of_commuting_matrices(products, size):
    gram = _symmetric_matrix(size)
    square, cube = (torch.full_like(gram, torch.nan) for _ in range(2))
    products.commuting(gram, gram, square)
    _assert_rounded(square, gram.double() @ gram.double())
    products.commuting(square, gram, cube)  # its factors, once rounded, commute but nearly
    assert (cube.double() - square.double() @ gram.double()).norm() < ROUNDING * cube.double().norm()


@pytest.mark.parametrize("size", [4, 16, 208, 400, 512])
def test_a_polynomial_is_rounded_once_on_its_diagonal(products, size):
    gram = _symmetric_matrix(size)
    gram.diagonal().copy_(torch.linspace(0.3, 1.2, size))
    out = torch.full_like(gram, torch.nan)
    products.polynomial(gram, 3.4445, -4.7750, 2.0315, out)
    wide = gram.double()
    exact = 3.4445 * torch.eye(size) - 4.7750 * wide + 2.0315 * wide @ wide
    assert torch.equal(out, out.T)
    diagonal = exact.diagonal()
    assert ((out.double().diagonal() - diagonal).abs() <= ROUNDING * diagonal.abs() + 1e-5).all()
    assert (out.double() - exact).norm() < ROUNDING * exact.norm()


def test_a_stack_is_each_of_its_matrices():
    products = SymmetricProducts(Buffers(), compiled=False)
    stack = torch.stack([_matrix(400, 800, seed) for seed in range(3)])
    together, alone = torch.empty(3, 400, 400).bfloat16(), torch.empty(400, 400).bfloat16()
    products.gram(stack, together)
    for x, found in zip(stack, together):
        products.gram(x, alone)
        assert torch.allclose(found, alone, rtol=ROUNDING, atol=1e-3)


def test_threads_share_the_work_and_change_nothing(products):
    x, out = _matrix(512, 1024), [torch.empty(512, 512).bfloat16() for _ in range(3)]
    before = torch.get_num_threads()
    try:
        for threads, found in enumerate(out, 1):
            torch.set_num_threads(threads)
            products.gram(x, found)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], out[2])


def test_without_a_compiler_torch_computes(monkeypatch):
    monkeypatch.setattr(symmetric, "library", lambda name: None)
    x, out = _matrix(64, 256), torch.empty(64, 64).bfloat16()
    SymmetricProducts(Buffers()).gram(x, out)
    _assert_rounded(out, x.double() @ x.double().T)


def test_kept_memory_is_used_again():
    kept = Buffers()
    large = kept.take("x", (4, 8), torch.float32, torch.device("cpu"))
    small = kept.take("x", (3, 5), torch.float32, torch.device("cpu"))
    assert small.data_ptr() == large.data_ptr()
    assert kept.take("y", (3, 5), torch.float32, torch.device("cpu")).data_ptr() != large.data_ptr()
