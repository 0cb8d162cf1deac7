"""The settings of a training process leave its results in fp32."""

import pytest
import torch

from nanochat_core.compute.devices import prepare_cpu


@pytest.fixture(autouse=True)
def _precision_as_before():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_products_stay_exact():
    prepare_cpu()
    a, b = (torch.randn(300, 700, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    exact = a.double() @ b.double().T
    assert (a @ b.T - exact).norm() < 1e-6 * exact.norm()


def test_a_processor_that_rounds_keeps_the_usual_library(monkeypatch):
    def rounding(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.matmul(a.bfloat16(), b.bfloat16()).to(a.dtype) if a.dtype == torch.float32 else torch.matmul(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    prepare_cpu()
    assert torch.get_float32_matmul_precision() == "highest"
