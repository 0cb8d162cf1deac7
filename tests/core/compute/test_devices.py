"""Which number format a device computes in, and that a training process's settings leave its results in fp32."""

import pytest
import torch

from nanochat_core.compute.devices import choose_compute_dtype, prepare_cpu

CPU = torch.device("cpu")


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


@pytest.mark.parametrize(
    ("has_products", "capability", "chosen"),
    [
        (True, "AVX512", torch.bfloat16),
        (True, "AVX2", torch.float32),
        (True, "DEFAULT", torch.float32),
        (False, "AVX512", torch.float32),
    ],
)
def test_bf16_only_where_the_processor_multiplies_it_and_torch_may(monkeypatch, has_products, capability, chosen):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_products)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert choose_compute_dtype("bfloat16", CPU) == chosen
    assert choose_compute_dtype("float32", CPU) == torch.float32
