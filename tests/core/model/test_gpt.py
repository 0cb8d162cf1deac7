"""The forward pass against independent implementations; packed rows and the cache against one plain row each."""

import pytest
import torch
import torch.nn.functional as F

from nanochat_core.model.shape import detect_generation
from tests.support.reference_model import reference_logits
from tests.support.tiny import tiny_model
from tests.support.transformers_twin import relative, rounded_angles, transformers_twin

GENERATIONS = "ABCDE"


def _ids(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 512, (1, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_generation_a_equals_transformers(kv_heads):
    model = tiny_model(n_head=4, n_kv_head=kv_heads)
    twin = transformers_twin(model)
    ids = _ids(200)
    with torch.no_grad():
        ours = model(ids)
        assert relative(ours, twin(ids).logits) < 1e-3  # as it comes, with cos and sin in fp32
        assert relative(ours, rounded_angles(twin)(ids).logits) < 1e-5


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_equals_the_reference(generation):
    length = 24 if generation in "ABC" else 512  # windows: 12 tokens for B and C; whole tiles of 128 for D and E
    model = tiny_model(generation, n_layer=4, n_head=4, n_kv_head=2, sequence_len=length, window_pattern="SSLL")
    ids = _ids(20)
    config = {**vars(model.config), "generation": generation}
    expected = reference_logits(dict(model.named_parameters()), config, ids[0].tolist())
    assert relative(model(ids)[0], expected) < 1e-5


@pytest.mark.parametrize("generation", "DE")
def test_windows_in_whole_tiles_cut_where_the_formula_says(generation):
    model = tiny_model(generation, n_layer=2, n_embd=32, n_head=1, n_kv_head=1, sequence_len=384, window_pattern="S")
    assert model.config.window(0) == 128
    assert model.config.window(1) is None
    ids = _ids(140)
    config = {**vars(model.config), "generation": generation}
    expected = reference_logits(dict(model.named_parameters()), config, ids[0].tolist())
    assert relative(model(ids)[0], expected) < 1e-5


@pytest.mark.parametrize("generation", GENERATIONS)
def test_packed_rows_equal_one_conversation_a_row(generation):
    model = tiny_model(generation, n_layer=4, n_head=4, n_kv_head=2, sequence_len=32, window_pattern="SL")
    rows = [_ids(length, seed=length) for length in (5, 60, 1, 33)]
    packed = torch.cat(rows, 1)
    targets = packed.roll(-1, 1).clone()
    targets[:, ::3] = -1
    loss = model(packed, targets, lengths=[5, 60, 1, 33])
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    separate = torch.cat([model(row)[0] for row in rows])
    expected = F.cross_entropy(separate, targets[0], ignore_index=-1)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        scale = max(parameter.grad.norm().item(), 1e-3)
        assert (parameter.grad - gradients[name]).norm().item() / scale < 1e-5, name


def test_another_conversation_changes_nothing_in_a_packed_row():
    model = tiny_model()
    first, other, last = _ids(7, 1), _ids(9, 2), _ids(8, 3)
    together = model(torch.cat([first, other, last], 1), lengths=[7, 9, 8])[0, 16:]
    changed = model(torch.cat([last, first, last], 1), lengths=[8, 7, 8])[0, 15:]
    assert torch.allclose(together, changed, atol=1e-6)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_cache_equals_recomputation_for_ragged_rows(generation):
    model = tiny_model(generation, n_layer=4, n_head=4, n_kv_head=2, sequence_len=16, window_pattern="SL")
    lengths = [3, 20, 11]
    rows = [_ids(length, seed=length)[0] for length in lengths]
    padded = torch.zeros(3, 20, dtype=torch.long)
    for row, ids in zip(padded, rows):
        row[: len(ids)] = ids
    cache = model.new_cache(3, 40)
    logits = model(padded, cache=cache, lengths=lengths)
    for step in range(4):
        for index, ids in enumerate(rows):
            assert torch.allclose(model(ids[None])[0, -1], logits[index, 0], atol=1e-4)
        new = _ids(3, seed=100 + step).T
        logits = model(new, cache=cache)
        rows = [torch.cat([ids, token]) for ids, token in zip(rows, new)]
    assert cache.lengths == [7, 24, 15]


def test_cache_can_be_cut_and_rows_dropped():
    model = tiny_model("E")
    ids = _ids(12)
    cache = model.new_cache(2, 20)
    model(ids.expand(2, -1), cache=cache)
    cache.truncate(8)
    cache.select([1])
    logits = model(ids[:, 8:10], cache=cache)
    assert torch.allclose(logits[0, 0], model(ids[:, :10])[0, -1], atol=1e-4)


def test_padded_vocabulary_is_never_predicted():
    model = tiny_model(vocab_size=500, padded_vocab_size=512)
    with torch.no_grad():
        model.lm_head.weight[500:] = 100.0
    ids = _ids(10).clamp(max=499)
    assert model(ids).shape == (1, 10, 500)
    loss = model(ids, ids.roll(-1, 1))
    assert loss.item() == pytest.approx(F.cross_entropy(model(ids)[0], ids.roll(-1, 1)[0]).item(), rel=1e-5)


def test_loss_in_many_chunks_equals_one(monkeypatch):
    model = tiny_model()
    ids = _ids(50)
    targets = ids.roll(-1, 1)
    whole = model(ids, targets)
    whole.backward()
    gradient = model.lm_head.weight.grad.clone()
    model.zero_grad()
    monkeypatch.setattr("nanochat_core.model.loss.CHUNK_ELEMENTS", 512 * 7)
    parts = model(ids, targets)
    parts.backward()
    assert parts.item() == pytest.approx(whole.item(), rel=1e-6)
    assert torch.allclose(model.lm_head.weight.grad, gradient, atol=1e-6)
    nats, kept = model.token_nats(ids, targets)
    assert len(kept) == 50
    assert nats.mean().item() == pytest.approx(whole.item(), rel=1e-5)


def test_a_batch_with_nothing_to_learn_has_no_mean():
    model = tiny_model()
    with pytest.raises(ValueError, match="No token of this batch is trained on"):
        model(_ids(5), torch.full((1, 5), -1))


def test_bf16_computes_near_fp32_with_fp32_logits():
    model = tiny_model()
    expected = model(_ids(30))
    model.compute_dtype = torch.bfloat16
    logits = model(_ids(30))
    assert logits.dtype == torch.float32
    assert 1e-6 < relative(logits, expected) < 0.05


def test_generations_are_told_by_their_weights():
    for letter in GENERATIONS:
        shapes = {name: tuple(tensor.shape) for name, tensor in tiny_model(letter).named_parameters()}
        assert detect_generation(shapes) == letter
    for stranger in ("bigram_embed.weight", "v0_lambdas", "value_embed_A.weight"):
        with pytest.raises(ValueError, match="experimental"):
            detect_generation({stranger: (1,)})
    with pytest.raises(ValueError, match="16 channels"):
        detect_generation({"transformer.h.1.attn.ve_gate.weight": (2, 16)})
