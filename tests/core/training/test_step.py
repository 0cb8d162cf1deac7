"""One optimizer step: its gradients against the naive computation, and that nothing in it waits for the device."""

import dataclasses
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nanochat_core import FinetuneConfig
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import MEMORY_MODES
from nanochat_core.model.batch import Batch, pack
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.modes.build import build_mode
from nanochat_core.training.optimizers import build_optimizers
from nanochat_core.training.step import TrainingStep
from tests.support.tiny import tiny_model

CPU = Ranks(0, 1, torch.device("cpu"))
LENGTHS = (5, 300, 129, 2, 33)


def _examples(seed: int = 0) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index, length in enumerate(LENGTHS):
        ids = torch.randint(0, 512, (length,), generator=generator, dtype=torch.int32)
        mask = torch.rand(length, generator=generator) < 0.5
        mask[-1] = True
        found.append(Example(ids.numpy(), mask.numpy(), index))
    return found


def _step(model, memory="plain") -> TrainingStep:
    return TrainingStep(model, build_mode(memory, model, FinetuneConfig("-"), CPU), CPU, device_batch_size=2)


def _naive_loss(model, examples: list[Example]) -> torch.Tensor:
    """The mean over supervised targets by the logits of every position, a conversation at a time."""
    nats, count = torch.zeros(()), 0
    for example in examples:
        ids = torch.tensor(example.ids, dtype=torch.long)
        targets = torch.where(torch.tensor(example.mask), ids, -100)[1:]
        nats = nats + F.cross_entropy(model(ids[None, :-1])[0], targets, ignore_index=-100, reduction="sum")
        count += example.supervised
    return nats / count


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("generation", "ABCDE")
def test_loss_and_gradients_equal_the_naive_ones(generation, kv_heads):
    shape = {"n_layer": 4, "n_head": 4, "n_kv_head": kv_heads, "sequence_len": 128, "window_pattern": "SL"}
    naive, model = (tiny_model(generation, **shape) for _ in range(2))
    expected = _naive_loss(naive, _examples())
    expected.backward()
    step = _step(model)
    loss, _, _ = step.accumulate(_examples()).read(CPU, [torch.zeros(())])
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for (name, parameter), other in zip(model.named_parameters(), naive.parameters()):
        scale = max(other.grad.norm().item(), 1e-3)
        assert (parameter.grad - other.grad).norm().item() / scale < 1e-5, name


def test_long_conversations_compute_their_attention_weights_again(monkeypatch):
    kept, again = tiny_model(), tiny_model()
    _step(kept).accumulate(_examples())
    monkeypatch.setattr("nanochat_core.model.attention.KEPT_KEYS", 100)
    _step(again).accumulate(_examples())
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(kept.parameters(), again.parameters()))


@pytest.mark.parametrize("generation", "AE")
def test_the_way_of_other_devices_gives_the_same_gradients(generation, monkeypatch):
    here, elsewhere = (tiny_model(generation, n_layer=4, n_head=4, n_kv_head=2) for _ in range(2))
    _step(here).accumulate(_examples())
    monkeypatch.setattr("nanochat_core.model.functions._is_training_on_cpu", lambda x: False)
    _step(elsewhere).accumulate(_examples())
    for (name, one), other in zip(here.named_parameters(), elsewhere.parameters()):
        assert (one.grad - other.grad).norm() <= 1e-5 * max(other.grad.norm().item(), 1e-3), name


def test_casts_are_gone_after_a_step_that_fails():
    model = tiny_model()
    model.compute_dtype = torch.bfloat16
    block = model.casts_kept()
    block.__enter__()
    assert model.lm_head.kept.dtype == torch.bfloat16
    assert not block.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert model.lm_head.kept is None


def test_gradients_of_functions_are_those_of_finite_differences():
    from nanochat_core.model import functions
    from nanochat_core.model.attention import Layout, attend

    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)

    check = torch.autograd.gradcheck
    cos, sin = (random(1, 7, 1, 4).detach() for _ in range(2))
    up, down = random(6, 4), random(4, 6)
    assert check(lambda x, w: functions.product(x, w, w.detach()), (random(1, 3, 4), random(5, 4)))
    assert check(functions.norm, (random(1, 3, 8),), atol=1e-4)
    assert check(lambda x: functions.rotate_and_norm(x, cos, sin, 1.15), (random(1, 7, 2, 8),), atol=1e-4)
    mlp = functions.squared_relu_mlp
    assert check(lambda x, u, d: mlp(x, u, u.detach(), d, d.detach()), (random(1, 3, 4), up, down))
    layout = Layout.of((1, 7), [2, 5])
    for window in (None, 1):
        inputs = (random(1, 7, 2, 4), random(1, 7, 2, 4), random(1, 7, 2, 4))
        assert check(lambda q, k, v, window=window: attend(q, k, v, layout, window), inputs)


def test_a_step_takes_the_same_way_as_autograd_alone():
    model, other = tiny_model(), tiny_model()
    loss, norm = _step(model)(_examples())
    naive = _naive_loss(other, _examples())
    naive.backward()
    expected = torch.nn.utils.get_total_norm([parameter.grad for parameter in other.parameters()]).item()
    assert (loss, norm) == (pytest.approx(naive.item(), rel=1e-5), pytest.approx(expected, rel=1e-5))
    for optimizer in build_optimizers(other, FinetuneConfig("-")):
        optimizer.step()
    for mine, theirs in zip(model.parameters(), other.parameters()):
        assert (mine - theirs).norm() < 1e-3 * theirs.norm()
        assert mine.grad.count_nonzero() == 0


def test_a_step_tells_the_nats_of_every_conversation():
    model = tiny_model()
    examples = [*_examples(), dataclasses.replace(_examples(1)[0], index=2, is_replay=True)]
    expected = {(e.index, e.is_replay): _naive_loss(model, [e]).item() * e.supervised for e in examples}
    result = _step(model).take(0, examples)
    assert {(e.index, e.is_replay): e.tokens for e in result.examples} == {
        (e.index, e.is_replay): e.supervised for e in examples
    }
    assert {(e.index, e.is_replay): e.nats for e in result.examples} == pytest.approx(expected, rel=1e-5)
    whole = sum(e.nats for e in result.examples) / sum(e.tokens for e in result.examples)
    assert result.train_loss == pytest.approx(whole, rel=1e-6)


def test_weights_of_tokens_that_come_from_their_nats():
    """As of a loss that is no sum over tokens: the head is computed for the nats, and again for the gradient."""
    naive, model = tiny_model(), tiny_model()

    def weigh(batch, nats):
        assert nats.shape == batch.labels.shape
        return nats.square()

    examples = _examples()
    supervised = sum(example.supervised for example in examples)
    loss = torch.zeros(())
    for example in examples:
        ids = torch.tensor(example.ids, dtype=torch.long)
        targets = torch.where(torch.tensor(example.mask), ids, -100)[1:]
        nats = F.cross_entropy(naive(ids[None, :-1])[0], targets, ignore_index=-100, reduction="none")
        loss = loss + (nats.detach().square() * nats).sum() / supervised
    loss.backward()
    _step(model)  # gives the gradients their memory
    found, _ = model.add_gradients(pack(examples), 1 / supervised, weigh)
    assert found.item() == pytest.approx(loss.item(), rel=1e-5)
    for (name, parameter), other in zip(model.named_parameters(), naive.parameters()):
        assert (parameter.grad - other.grad).norm() < 1e-5 * max(other.grad.norm().item(), 1e-3), name


def test_weights_of_a_batch_that_are_all_one_change_nothing():
    batch = pack(_examples()[:2])
    plain, weighted = tiny_model(), tiny_model()
    found = []
    for model, weights in ((plain, None), (weighted, torch.ones(len(batch.wanted)))):
        _step(model)
        found.append(model.add_gradients(dataclasses.replace(batch, weights=weights).to(CPU.device), 0.5))
    assert all(torch.equal(a, b) for a, b in zip(*found))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), weighted.parameters()))


def test_bf16_gradients_are_near_those_of_fp32():
    exact, model = tiny_model(), tiny_model()
    model.compute_dtype = torch.bfloat16
    for each in (exact, model):
        _step(each).accumulate(_examples())
    for (name, parameter), other in zip(model.named_parameters(), exact.parameters()):
        assert parameter.grad.dtype == torch.float32
        assert (parameter.grad - other.grad).norm() < 0.05 * other.grad.norm(), name


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for a device: numbers read back, and shapes that depend on values."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation._schema.name.removeprefix("aten::")
        refused = (
            "_local_scalar_dense",
            "nonzero",
            "masked_select",
            "item",
            "unique",
            "_unique2",
            "equal",
            "is_nonzero",
        )
        if name in refused:
            raise AssertionError(f"{name} waits for the device.")
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            by_mask = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            assert not by_mask, "Indexing with a mask waits for the device."
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("kv_heads", [4, 2])  # 2: attention takes the way that it takes on a GPU
@pytest.mark.parametrize(("generation", "memory"), [*product("ABCDE", ["plain"]), *product("AE", MEMORY_MODES[1:])])
def test_a_step_reads_from_the_device_once(generation, kv_heads, memory, monkeypatch):
    model = tiny_model(generation, n_layer=4, n_head=4, n_kv_head=kv_heads, sequence_len=128, window_pattern="SL")
    model.compute_dtype = torch.float32 if memory == "plain" else torch.bfloat16
    step, read, tolist = _step(model, memory), [], torch.Tensor.tolist
    step(_examples())  # optimizers make their state, the model its rotary table
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: read.append(tensor) or tolist(tensor))
    with NoWaiting():
        step(_examples())
    assert len(read) == 1


def test_the_test_of_waiting_can_fail():
    with NoWaiting():
        for wait in (lambda x: x.item(), lambda x: x[x > 0], lambda x: int(x), lambda x: (x > 0).nonzero()):
            with pytest.raises(AssertionError, match="waits for the device"):
                wait(torch.ones(()))


def test_what_steers_a_batch_is_worked_out_on_the_host():
    batch = pack(_examples())
    assert isinstance(batch, Batch)
    assert batch.labels.tolist() == batch.targets[0, batch.wanted].tolist()
    assert (batch.targets[0] != -1).sum() == len(batch.wanted)
    assert batch.layout.positions[0].tolist() == [t for length in LENGTHS for t in range(length - 1)]
    assert batch.layout.longest == 299
