"""Newton-Schulz against fp64 and torch.optim.Muon: compiled where the processor can, elsewhere by torch's operators.

The two ways differ in what bf16 loses, and torch's operators from processor to processor. So errors are compared with
torch.optim.Muon's on the same matrix and the same processor, which lie between 1.1% and 1.7%.
"""

import pytest
import torch

from nanochat_core.training import newton_schulz
from nanochat_core.training.muon import A, B, C, orthogonalize
from nanochat_core.training.newton_schulz import can_orthogonalize, orthogonalize_compiled, passes_over
from nanochat_core.training.symmetric import Buffers

CPU = torch.device("cpu")
SHAPES = [
    (1, 1),
    (1, 7),
    (5, 40),
    (33, 17),
    (16, 16),
    (100, 100),
    (48, 1040),
    (1040, 48),
    (256, 400),
    (400, 256),
    (257, 530),
]


def _matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Of Frobenius norm 1."""
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return x / x.norm()


def _orthogonalized(x: torch.Tensor, norm: float = 1.0, kept: Buffers | None = None) -> torch.Tensor:
    kept = kept or Buffers()
    if can_orthogonalize(CPU):
        return orthogonalize_compiled(x.clone(), torch.tensor(norm), (A, B, C), kept)
    return orthogonalize((x / norm).bfloat16(), kept).float()


def _torchs(x: torch.Tensor) -> torch.Tensor:
    parameter = torch.nn.Parameter(torch.zeros_like(x))
    parameter.grad = x
    plain = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "adjust_lr_fn": "original"}
    torch.optim.Muon([parameter], lr=1.0, **plain).step()
    return -parameter.detach() / max(1.0, x.shape[0] / x.shape[1]) ** 0.5


def _exact(x: torch.Tensor) -> torch.Tensor:
    x = x.double()
    for _ in range(5):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x


def _errors(x: torch.Tensor) -> tuple[float, float]:
    """(ours, torch.optim.Muon's), relative to the exact result."""
    exact = _exact(x)
    return tuple(((found - exact).norm() / exact.norm()).item() for found in (_orthogonalized(x), _torchs(x)))


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_it_is_near_to_the_exact_one(rows, columns):
    ours, theirs = _errors(_matrix(rows, columns))
    assert ours < 0.02
    assert ours <= (0.75 if can_orthogonalize(CPU) else 1.05) * theirs


@pytest.mark.parametrize("passes", [(1, 1, 1, 1, 1), (2, 1, 2), (3, 2), (5,)])
@pytest.mark.parametrize(("rows", "columns"), [(64, 400), (400, 64)])
def test_steps_may_share_a_pass(monkeypatch, rows, columns, passes):
    """Random matrices have no small singular values of which a long pass would lose much.

    Torch's operators take no such passes: there each case is their own, and the bound lets them lose more.
    """
    monkeypatch.setattr(newton_schulz, "passes_over", lambda rows, columns: passes)
    ours, theirs = _errors(_matrix(rows, columns))
    assert ours <= (0.4 if can_orthogonalize(CPU) else 0.95) * theirs


def test_only_large_and_wide_ones_share_passes():
    assert passes_over(256, 1024) == passes_over(1024, 256) == (3, 2)
    assert passes_over(128, 1024) == passes_over(512, 512) == (1, 1, 1, 1, 1)


@pytest.mark.parametrize(("rows", "columns"), [(33, 17), (257, 530)])
def test_what_was_left_in_memory_does_not_matter(rows, columns):
    x, kept = _matrix(rows, columns), Buffers()
    first = _orthogonalized(x, kept=kept)
    for flat in kept._flat.values():
        flat.fill_(-1 if flat.dtype == torch.int32 else torch.nan)  # as bf16 and as fp32 no number either
    assert torch.equal(first, _orthogonalized(x, kept=kept))


@pytest.mark.parametrize(("rows", "columns"), [(17, 33), (33, 17), (16, 31)])
def test_nothing_is_written_beside_the_matrix(rows, columns):
    if not can_orthogonalize(CPU):
        return
    around = torch.full((64 + rows * columns + 64,), 7.0)
    x = around[64 : 64 + rows * columns].view(rows, columns)
    x.copy_(_matrix(rows, columns))
    found = orthogonalize_compiled(x, torch.ones(()), (A, B, C), Buffers())
    assert found.data_ptr() == x.data_ptr()
    assert (around[:64] == 7).all()
    assert (around[64 + rows * columns :] == 7).all()


def test_it_is_divided_by_its_norm_first():
    x = _matrix(48, 100)
    assert torch.equal(_orthogonalized(x), _orthogonalized(x * 2**40, 2.0**40))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_become_fp32(dtype):
    x = _matrix(48, 100).bfloat16()
    found = _orthogonalized(x.to(dtype))
    assert found.dtype == torch.float32
    assert torch.equal(found, _orthogonalized(x.float()))


def test_threads_share_the_work_and_change_nothing():
    x, before, found = _matrix(256, 528), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(_orthogonalized(x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_torch_does_it_without_a_compiler_on_gpus_and_where_it_is_faster(monkeypatch):
    assert not can_orthogonalize(torch.device("meta"))
    with monkeypatch.context() as patched:
        patched.setattr(newton_schulz, "library", lambda name, **mirrored: None)
        assert not can_orthogonalize(CPU)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert not can_orthogonalize(CPU)
