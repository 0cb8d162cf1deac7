"""An fp32 weight in two halves comes back as it was."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nanochat_core.training.modes.halves import join, split


def _and_back(bits: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(weights of these bits, the high half, the weights of both halves)."""
    weight = torch.from_numpy(bits.view(np.int32)).view(torch.float32)
    high, low = torch.empty(weight.shape, dtype=torch.bfloat16), torch.empty(weight.shape, dtype=torch.int16)
    ties = torch.empty(weight.numel() // 8, dtype=torch.uint8)
    split(weight, high, low, ties)
    return weight, high, join(high, low, ties, torch.empty(weight.shape))


def _assert_all_come_back(bits: np.ndarray) -> None:
    weight, high, back = _and_back(bits)
    numbers = ~weight.isnan()
    assert torch.equal(back.view(torch.int32)[numbers], weight.view(torch.int32)[numbers])
    assert torch.equal(high.view(torch.int16)[numbers], weight.bfloat16().view(torch.int16)[numbers])
    assert torch.equal(back.isnan(), weight.isnan())


@given(arrays(np.uint32, st.integers(1, 40).map(lambda n: 8 * n)))
def test_any_bits(bits):
    _assert_all_come_back(bits)


@pytest.mark.parametrize("low", [0x8000, 0x7FFF, 0x8001, 0, 1, 0xFFFF])
def test_every_high_half_with_a_low_one_at_and_beside_a_tie(low):
    """65,536 numbers: with them zeros of both signs, subnormals, infinities, and what rounds to an infinity."""
    _assert_all_come_back((np.arange(1 << 16, dtype=np.uint32) << 16) | np.uint32(low))


def test_large_ones_are_converted_a_piece_at_a_time():
    _assert_all_come_back(np.random.default_rng(0).integers(0, 1 << 32, (1 << 19) + 8, np.uint32))


def test_the_test_knows_a_half_that_is_lost():
    weight, high, back = _and_back(np.full(8, 0x3F808000, np.uint32))
    assert torch.equal(back, weight)
    assert not torch.equal(high.float(), weight)
