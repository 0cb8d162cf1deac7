"""Tensors in slabs: what torch rounds up to powers of two is one already."""

import pytest
import torch

from nanochat_core.memory.shapes import shape_of_depth
from nanochat_core.training.modes.rooms import in_slabs


@pytest.mark.parametrize("depth", [12, 26, 34])
def test_slabs_take_little_more_than_their_tensors(depth):
    shape, taken = shape_of_depth(depth), []

    def allocate(size: int) -> torch.Tensor:
        taken.append(size)
        return torch.zeros(size, dtype=torch.uint8)

    width = shape.n_embd // 16  # and all in this measure: bytes are a 256th
    block = [((width, width), torch.float32)] * 4 + [((4 * width, width), torch.float32)] * 2
    tables = [((shape.vocab_size // 16, width), torch.float32)] * 4
    specs = [spec for half in (*[block] * depth, tables) for spec in (*half, *((s, torch.uint16) for s, _ in half))]
    tensors = in_slabs(specs, allocate, most=1 << 22)
    needed = sum(tensor.numel() * tensor.itemsize for tensor in tensors)
    assert all(size & (size - 1) == 0 for size in taken)
    assert needed <= sum(taken) <= 1.15 * needed


def test_tensors_in_slabs_are_apart_and_whole():
    specs = [((3, 5), torch.float32), ((0,), torch.uint8), ((7,), torch.uint16), ((1000, 9), torch.float32)] * 3
    tensors = in_slabs(specs, lambda size: torch.zeros(size, dtype=torch.uint8))
    assert [(tuple(tensor.shape), tensor.dtype) for tensor in tensors] == specs
    for number, tensor in enumerate(tensors):
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize
        tensor.fill_(number + 1)
    assert all((tensor == number + 1).all() for number, tensor in enumerate(tensors))
