"""Muon against the rule in fp64, and never farther from it than torch.optim.Muon."""

import pytest
import torch
import torch.nn.functional as F

from nanochat_core.training import muon, newton_schulz
from nanochat_core.training.muon import A, B, C, Muon, orthogonalize
from nanochat_core.training.newton_schulz import can_orthogonalize
from nanochat_core.training.symmetric import Buffers
from tests.support.tiny import tiny_model

CPU = torch.device("cpu")
TORCHS = {"momentum": 0.95, "nesterov": True, "adjust_lr_fn": "original"}


def _exact(x: torch.Tensor) -> torch.Tensor:
    """Five Newton-Schulz steps in fp64, by the formula."""
    wide = (x if x.shape[0] <= x.shape[1] else x.T).double()
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = wide @ wide.T
        wide = A * wide + (B * gram + C * gram @ gram) @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.T


class _Exact:
    """The whole rule in fp64."""

    def __init__(self, weight: torch.Tensor, rate: float, weight_decay: float):
        self.weight, self.rate, self.weight_decay = weight.double(), rate, weight_decay
        self.momentum = torch.zeros_like(self.weight)

    def step(self, gradient: torch.Tensor) -> None:
        self.momentum.lerp_(gradient.double(), 0.05)
        rows, columns = gradient.shape
        update = _exact(gradient.double().lerp(self.momentum, 0.95)) * max(1.0, rows / columns) ** 0.5
        self.weight = self.weight * (1 - self.rate * self.weight_decay) - self.rate * update


def _gradient(rows: int, columns: int, decay: float, seed: int = 0) -> torch.Tensor:
    """Random, with singular values i^-decay: those of real gradients fall too."""
    generator = torch.Generator().manual_seed(seed)
    left, _, right = torch.linalg.svd(torch.randn(rows, columns, generator=generator), full_matrices=False)
    return left * torch.arange(1, left.shape[1] + 1) ** -decay @ right


def _run(make, gradients: list[torch.Tensor]) -> torch.Tensor:
    parameter = torch.nn.Parameter(_gradient(*gradients[0].shape, 0.5, seed=99))
    optimizer = make(parameter)
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach()


def _ours(parameter: torch.nn.Parameter) -> Muon:
    return Muon([parameter], lr=0.02, weight_decay=0.1)


def _distances(gradients: list[torch.Tensor]) -> tuple[float, float]:
    """How far our parameter and torch.optim.Muon's end from that of the exact rule."""
    exact = _Exact(_gradient(*gradients[0].shape, 0.5, seed=99), 0.02, 0.1)
    for gradient in gradients:
        exact.step(gradient)
    theirs = _run(lambda p: torch.optim.Muon([p], lr=0.02, weight_decay=0.1, **TORCHS), gradients)
    return tuple((weight.double() - exact.weight).norm().item() for weight in (_run(_ours, gradients), theirs))


@pytest.fixture(params=[True, False], ids=["compiled", "torch"])
def compiled(request, monkeypatch) -> bool:
    """Where the processor cannot, both are torch's."""
    if not request.param:
        monkeypatch.setattr(newton_schulz, "library", lambda name, **mirrored: None)
    return request.param


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("decay", [0.3, 0.5, 1.0, 1.5])
@pytest.mark.parametrize(
    ("rows", "columns"), [(128, 128), (256, 1024), (1024, 256), (64, 64), (64, 256), (32, 64), (128, 512), (400, 400)]
)
def test_a_step_is_no_farther_from_the_exact_one_than_torchs(rows, columns, decay):
    ours, theirs = _distances([_gradient(rows, columns, decay)])
    assert ours <= (1.05 if can_orthogonalize(CPU) else 1.1) * theirs


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(("rows", "columns"), [(128, 128), (512, 128), (128, 512), (256, 512)])
def test_twenty_steps_are_no_farther_than_torchs(rows, columns):
    ours, theirs = _distances([_gradient(rows, columns, 0.7, seed) for seed in range(20)])
    assert ours <= 1.05 * theirs


def test_the_smallest_matrices():
    for shape in [(4, 64), (64, 4), (1, 7), (3, 3)]:
        gradient = _gradient(*shape, 0.5)
        exact = _Exact(_gradient(*shape, 0.5, seed=99), 0.02, 0.1)
        exact.step(gradient)
        assert (_run(_ours, [gradient]).double() - exact.weight).norm() < 0.05 * 0.02 * max(shape) ** 0.5


def test_fp32_where_bf16_is_slow(monkeypatch):
    monkeypatch.setattr(muon, "choose_compute_dtype", lambda wanted, device: torch.float32)
    for shape in [(128, 128), (512, 128), (128, 512)]:
        ours, theirs = _distances([_gradient(*shape, 1.0)])
        assert ours < 0.02 * theirs


def test_a_stack_is_each_of_its_matrices(monkeypatch):
    shapes = [(128, 512), (512, 128), (128, 512), (128, 128), (128, 512)]
    alone, stacked = ([torch.nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in range(2))
    optimizers = Muon(alone, lr=0.02), Muon(stacked, lr=0.02)
    for seed in range(2):
        for index, pair in enumerate(zip(alone, stacked)):
            for parameter in pair:
                parameter.grad = _gradient(*parameter.shape, 0.5, seed=index + 10 * seed)
        optimizers[0].step()
        with monkeypatch.context() as patched:
            patched.setattr(muon, "_stacks", _by_shape)
            optimizers[1].step()
    for one, other in zip(alone, stacked):
        assert (one - other).norm() < 0.02 * one.norm()


def _by_shape(parameters):
    return [[p for p in parameters if p.shape == shape] for shape in dict.fromkeys(p.shape for p in parameters)]


def test_nothing_changes_without_a_gradient_or_by_a_zero_one():
    without, zero = (torch.nn.Parameter(torch.ones(16, 32)) for _ in range(2))
    zero.grad = torch.zeros(16, 32)
    Muon([without, zero], lr=0.02).step()
    assert torch.equal(without, torch.ones(16, 32))
    assert torch.equal(zero, torch.ones(16, 32))


def test_gradients_may_lie_in_any_order():
    gradient = _gradient(64, 128, 0.5)
    straight, turned = _run(_ours, [gradient] * 3), _run(_ours, [gradient.T.contiguous().T] * 3)
    assert torch.allclose(straight, turned, atol=1e-6)


def test_a_matrix_of_not_a_number_stays_one():
    parameter = torch.nn.Parameter(torch.ones(16, 16))
    parameter.grad = torch.full((16, 16), torch.nan)
    Muon([parameter], lr=0.02).step()
    assert parameter.isnan().all()


def test_the_state_is_that_of_torchs_muon():
    gradients = [_gradient(64, 128, 0.5, seed) for seed in range(3)]
    ours, theirs = (torch.nn.Parameter(torch.ones(64, 128)) for _ in range(2))
    first, second = Muon([ours], lr=0.02), torch.optim.Muon([theirs], lr=0.02, **TORCHS)
    for gradient in gradients:
        ours.grad = theirs.grad = gradient
        first.step()
        second.step()
    assert first.state[ours].keys() == second.state[theirs].keys() == {"momentum_buffer"}
    assert torch.equal(first.state[ours]["momentum_buffer"], second.state[theirs]["momentum_buffer"])


def test_training_goes_as_with_torchs_muon():
    curves = []
    for make in (lambda p: Muon(p, lr=0.02), lambda p: torch.optim.Muon(p, lr=0.02, weight_decay=0.0, **TORCHS)):
        model = tiny_model()
        matrices = [p for name, p in model.named_parameters() if ".h." in name]
        optimizer = make(matrices)
        curves.append([])
        for seed in range(20):
            ids = torch.randint(0, 40, (2, 48), generator=torch.Generator().manual_seed(seed % 4))
            loss = model(ids, ids.roll(-1, 1))
            loss.backward()
            optimizer.step()
            model.zero_grad()
            curves[-1].append(loss.item())
    ours, theirs = map(torch.tensor, curves)
    assert F.l1_loss(ours, theirs) < 0.01 * (theirs[0] - theirs[-1])
    assert theirs[-1] < theirs[0] - 0.5


def test_the_result_of_newton_schulz_has_singular_values_near_one():
    x = _gradient(128, 512, 0.5)
    found = orthogonalize((x / x.norm()).bfloat16(), Buffers())
    values = torch.linalg.svdvals(found.float())
    assert 0.6 < values.min() < values.max() < 1.25
