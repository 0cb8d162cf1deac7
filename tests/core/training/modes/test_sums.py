"""The order in which gradients are added: the same bits whatever the number of ranks, without any process."""

import numpy as np
import pytest
import torch

from nanochat_core.compute.ranks import Ranks
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.modes.sums import SLOTS, AnyOrder, FixedOrder

CPU = torch.device("cpu")


def _batches(count: int) -> list[list[Example]]:
    draw = np.random.default_rng(count)
    lengths = sorted(draw.integers(2, 400, count).tolist(), reverse=True)
    return [[Example(np.zeros(n, np.int32), np.ones(n, bool), at)] for at, n in enumerate(lengths)]


class _Exchange:
    """Ranks whose messages are handed over in turn: the sums of all ranks run in threads of one process."""

    def __init__(self, world: int):
        import queue

        self.boxes = {(a, b): queue.Queue() for a in range(world) for b in range(world)}

    def ranks(self, rank: int, world: int) -> Ranks:
        ranks = Ranks(rank, world, CPU)

        def pass_on(tensors, source, target):
            for tensor in tensors:
                if rank == source:
                    self.boxes[source, target].put(tensor.clone())
                elif rank == target:
                    tensor.copy_(self.boxes[source, target].get(timeout=20))

        object.__setattr__(ranks, "pass_on", pass_on)
        return ranks


def _sum_in(world: int, count: int, owner: int) -> torch.Tensor:
    """The sum of `count` micro-batches' gradients, random ones, over `world` ranks."""
    from concurrent.futures import ThreadPoolExecutor

    exchange, batches = _Exchange(world), _batches(count)
    gradients = [torch.randn(500, generator=torch.Generator().manual_seed(at)) for at in range(count)]

    def of_rank(rank: int):
        sums = FixedOrder(batches, exchange.ranks(rank, world))

        def compute(group: int):
            total = torch.zeros(500)
            for number in sums.groups[group]:
                total += gradients[number]
            return {"a": total}

        parts = sums.here(compute, lambda _: None)
        return sums.across(parts, {"a": torch.zeros(500)}, owner)()

    with ThreadPoolExecutor(world) as pool:
        found = list(pool.map(of_rank, range(world)))
    assert [rank for rank, total in enumerate(found) if total is not None] == [owner]
    return found[owner]["a"]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 40])
def test_the_bits_are_the_same_for_any_number_of_ranks(count):
    one = _sum_in(1, count, 0)
    for world in range(2, SLOTS + 1):
        for owner in {0, world // 2, world - 1}:
            assert torch.equal(_sum_in(world, count, owner), one), (world, owner)


def test_in_another_order_they_are_not():
    gradients = [torch.randn(500, generator=torch.Generator().manual_seed(at)) for at in range(13)]
    assert not torch.equal(_sum_in(1, 13, 0), sum(gradients))


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("kind", [AnyOrder, FixedOrder])
def test_every_micro_batch_is_computed_once(kind, world):
    for count in (1, 7, 30):
        groups = [kind(_batches(count), Ranks(rank, world, CPU)).groups for rank in range(world)]
        assert sorted(n for of_rank in groups for group in of_rank for n in group) == list(range(count))


@pytest.mark.parametrize("world", [2, 4])
def test_the_ranks_have_about_the_same_number_of_tokens(world):
    batches = _batches(40)
    for kind in (AnyOrder, FixedOrder):
        groups = [kind(batches, Ranks(rank, world, CPU)).groups for rank in range(world)]
        tokens = [sum(batches[n][0].inputs for group in of_rank for n in group) for of_rank in groups]
        assert max(tokens) < 1.05 * min(tokens)


def test_more_ranks_than_slots_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="fixed_sums is for at most 8 processes, not 9"):
        FixedOrder(_batches(3), Ranks(0, 9, CPU))
