"""fp32 in 28 bits: the same bits come back, and the same replies, whatever the weights are and whoever reads them."""

import pytest
import torch

from nanochat_core import load_model
from nanochat_core.checkpoint import compact, loading
from nanochat_core.checkpoint.compact import CompactLinear, make_compact
from nanochat_core.checkpoint.loading import dtype_of, parameter_count
from nanochat_core.compute.huge_pages import HugePages
from nanochat_core.model.adapters import sharing_weights
from tests.support.tiny import install_tiny_model, tiny_model

SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 128, "n_kv_head": 2}


def _matrix(rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    matrix = torch.randn(rows, columns, generator=generator) * 0.02
    for row, value in enumerate((0.0, -0.0, 1e-42, -1e-38, 1e30, float("inf"), float("nan"))):
        matrix[row % rows, row % columns] = value
    matrix[rows // 2] = 0.0
    matrix[rows // 3] *= 1e-37
    matrix[rows // 4] *= 10.0 ** torch.linspace(-35, 35, columns)
    any_bits = torch.randint(-(1 << 31), (1 << 31) - 1, (columns,), generator=generator).to(torch.int32)
    matrix[rows - 1] = any_bits.view(torch.float32)
    return matrix


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


@pytest.mark.parametrize(("rows", "columns"), [(1, 64), (3, 128), (37, 192), (100, 512), (7, 8192)])
def test_the_same_bits_come_back(rows, columns):
    matrix = _matrix(rows, columns)
    made = compact.compact(matrix, HugePages(), None)
    assert made.weight.nbytes == matrix.nbytes * 7 // 8
    assert _same_bits(made.cast(torch.float32), matrix)
    ordinary = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
    assert compact.compact(ordinary, HugePages(), None).scales.nbytes < ordinary.nbytes * 0.02 + 300 * rows


def test_what_is_not_fp32_is_taken_as_that():
    matrix = _matrix(20, 128)
    for other in (matrix.bfloat16(), matrix.T.contiguous().T, matrix.half()):
        assert _same_bits(compact.compact(other, HugePages(), None).cast(torch.float32), other.float().contiguous())


@pytest.mark.parametrize("generation", "ABCDE")
def test_logits_are_the_same_to_the_bit(generation):
    model, held = (tiny_model(generation, window_pattern="SL", **SHAPE) for _ in range(2))
    make_compact(held)
    assert isinstance(held.lm_head, CompactLinear)
    caches = [one.new_cache(3, 40) for one in (model, held)]
    generator = torch.Generator().manual_seed(0)
    for added in (1, 20, 3, 1, 9):
        ids = torch.randint(0, 512, (3, added), generator=generator)
        found, expected = (one(ids, cache=cache) for one, cache in zip((held, model), caches))
        assert torch.equal(found, expected)
    assert held.decoder is not None
    ids = torch.randint(0, 512, (1, 30), generator=generator)
    assert torch.equal(held(ids), model(ids))  # by torch
    assert parameter_count(held) == parameter_count(model)


def test_for_a_chat_fp32_is_loaded_so_and_replies_are_the_same(home, monkeypatch):
    monkeypatch.setattr(loading, "pays", lambda config: True)  # whatever processor this is
    tag = install_tiny_model(home, **SHAPE)
    plain, _, _ = load_model(f"pretrained/{tag}")
    held, _, _ = load_model(f"pretrained/{tag}", for_chat=True)
    assert isinstance(held.transformer.h[1].mlp.c_fc, CompactLinear)
    assert dtype_of(held) == torch.float32
    assert held.transformer.wte.weight.dtype == torch.bfloat16  # as the file has it
    assert all(not parameter.requires_grad for parameter in held.parameters())
    for name, matrix in plain.named_modules():
        if isinstance(held.get_submodule(name), CompactLinear):
            assert _same_bits(held.get_submodule(name).cast(torch.float32), matrix.weight), name
    ids = torch.arange(40)[None]
    for model in (held, sharing_weights(held)):
        assert torch.equal(model(ids, cache=model.new_cache(1, 40)), plain(ids, cache=plain.new_cache(1, 40)))
    rounded, _, _ = load_model(f"pretrained/{tag}", dtype=torch.bfloat16, for_chat=True)
    assert rounded.lm_head.weight.dtype == torch.bfloat16


def test_threads_that_read_pieces_put_them_together(home, monkeypatch):
    monkeypatch.setattr("nanochat_core.checkpoint.mapped_files.SHARED_BYTES", 5000)  # a few rows a piece
    test_for_a_chat_fp32_is_loaded_so_and_replies_are_the_same(home, monkeypatch)


def test_where_it_does_not_pay_matrices_are_what_they_always_are(home, monkeypatch):
    monkeypatch.setattr(compact, "library", lambda name, **mirrored: None)
    tag = install_tiny_model(home, **SHAPE)
    model, _, _ = load_model(f"pretrained/{tag}", for_chat=True)
    assert model.lm_head.weight.dtype == torch.float32


def test_a_shape_that_the_decode_step_does_not_take_is_none_for_it():
    assert not compact.pays(tiny_model(n_embd=96, n_head=2).config)
