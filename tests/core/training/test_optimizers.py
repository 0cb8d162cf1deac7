"""One and several optimizer steps against torch's own optimizers and against the formula written out."""

import pytest
import torch

from nanochat_core.config import FinetuneConfig
from nanochat_core.training.optimizers import (
    build_optimizers,
    learning_rate_multiplier,
    set_learning_rates,
)
from tests.support.tiny import tiny_model


def _step(model, optimizers, seed: int) -> None:
    ids = torch.randint(0, 512, (1, 40), generator=torch.Generator().manual_seed(seed))
    model(ids, ids.roll(-1, 1)).backward()
    for optimizer in optimizers:
        optimizer.step()
    model.zero_grad()


def test_a_step_equals_torchs_muon_and_adamw():
    ours, theirs = tiny_model(), tiny_model()
    config = FinetuneConfig("data", weight_decay=0.1)
    optimizers = build_optimizers(ours, config)
    set_learning_rates(optimizers, 0.5)
    scale = (64 / 768) ** -0.5
    matrices = [p for name, p in theirs.named_parameters() if ".h." in name]
    reference = [
        torch.optim.Muon(matrices, lr=0.005, momentum=0.95, weight_decay=0.0, adjust_lr_fn="original"),
        torch.optim.AdamW(
            [
                {"params": [theirs.lm_head.weight], "lr": 0.5 * 0.002 * scale},
                {"params": [theirs.transformer.wte.weight], "lr": 0.5 * 0.1 * scale},
            ],
            betas=(0.8, 0.95),
            eps=1e-10,
            weight_decay=0.1,
        ),
    ]
    for seed in range(3):
        ids = torch.randint(0, 512, (1, 40), generator=torch.Generator().manual_seed(seed))
        ours(ids, ids.roll(-1, 1)).backward()
        for a, b in zip(ours.parameters(), theirs.parameters()):
            b.grad = a.grad.clone()
        for optimizer in [*optimizers, *reference]:
            optimizer.step()
        ours.zero_grad()
    for (name, a), b, start in zip(ours.named_parameters(), theirs.parameters(), tiny_model().parameters()):
        if ".h." in name:  # orthogonalized in bf16, each in its way
            assert (a - b).norm() < 0.1 * (b - start).norm(), name
        else:
            assert torch.allclose(a, b, atol=1e-6), name


def test_muon_is_the_formula_of_the_recipe():
    model = tiny_model()
    weight = model.transformer.h[0].mlp.c_fc.weight
    start, learning_rate = weight.detach().double(), 0.01
    expected = start.clone()
    optimizers = build_optimizers(model, FinetuneConfig("data", matrix_lr=learning_rate))
    momentum = torch.zeros_like(start)
    for seed in range(3):
        ids = torch.randint(0, 512, (1, 40), generator=torch.Generator().manual_seed(seed))
        model(ids, ids.roll(-1, 1)).backward()
        momentum.lerp_(weight.grad.double(), 0.05)
        update = weight.grad.double().lerp(momentum, 0.95).T  # 256 x 64 is tall
        update = update / (update.norm() + 1e-7)
        for _ in range(5):
            gram = update @ update.T
            update = 3.4445 * update + (-4.7750 * gram + 2.0315 * gram @ gram) @ update
        expected -= learning_rate * (256 / 64) ** 0.5 * update.T
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad()
    assert (weight - expected).norm() < 0.05 * (expected - start).norm()


@pytest.mark.parametrize("generation", "ABCDE")
def test_every_parameter_has_exactly_one_optimizer(generation):
    model = tiny_model(generation)
    optimizers = build_optimizers(model, FinetuneConfig("data"))
    ids = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(ids) == sorted(id(parameter) for parameter in model.parameters())
    _step(model, optimizers, 0)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_the_schedule_falls_linearly_and_every_step_trains():
    assert [learning_rate_multiplier(step, 4, 0.1) for step in range(4)] == pytest.approx([0.1, 0.075, 0.05, 0.025])
