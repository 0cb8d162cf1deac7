"""LoRA's matrices beside those of a model: they change nothing at first, and merged they give the same logits."""

import pytest
import torch

from nanochat_core.checkpoint.adapters import add_to_weights, read_adapter, write_adapter
from nanochat_core.checkpoint.few_bits import BITS, quantize
from nanochat_core.checkpoint.loading import build_model
from nanochat_core.model.adapters import adapted_modules, adapter_of, attach, new_adapter, with_adapter
from tests.support.adapters import ALL, random_adapter
from tests.support.tiny import tiny_model

IDS = torch.arange(60).view(2, 30) * 7 % 500


def _weights(model) -> dict:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_a_new_adapter_changes_nothing_and_is_the_same_everywhere():
    model = tiny_model("E")
    before = model(IDS)
    adapter = new_adapter(model, ALL, 4, 8, seed=1)
    assert torch.equal(attach(model, adapter)(IDS), before)
    again = new_adapter(tiny_model("E"), ALL, 4, 8, seed=1)
    assert all(torch.equal(again.matrices[name][0], a) for name, (a, _) in adapter.matrices.items())


def test_targets_mean_the_matrices_of_every_block():
    assert adapted_modules(tiny_model(), ("attn.c_q", "mlp.c_proj")) == [
        f"transformer.h.{layer}.{name}" for layer in (0, 1) for name in ("attn.c_q", "mlp.c_proj")
    ]


@pytest.mark.parametrize("generation", "ABCDE")
def test_merged_is_unmerged(generation):
    model = tiny_model(generation)
    adapter, weights = random_adapter(model), _weights(model)
    add_to_weights(weights, adapter, "It")
    one = build_model(model.config, weights, torch.device("cpu"), torch.float32, torch.float32)
    base, two = model(IDS), attach(model, adapter)(IDS)
    assert (one(IDS) - two).abs().max() < 1e-4 < (base - two).abs().max()


def test_two_adapters_of_one_base_share_its_memory():
    base = tiny_model().eval()
    before = base(IDS)
    one, two = (with_adapter(base, random_adapter(base, seed=seed)) for seed in (1, 2))
    assert not torch.equal(one(IDS), two(IDS))
    assert torch.equal(base(IDS), before)
    for name, parameter in base.named_parameters():
        assert one.get_parameter(name).data_ptr() == two.get_parameter(name).data_ptr() == parameter.data_ptr()


@pytest.mark.parametrize("dtype", BITS)
def test_an_adapter_hangs_at_few_bits_too(dtype):
    base = quantize(tiny_model().eval(), dtype)
    adapted = with_adapter(base, random_adapter(tiny_model()))
    assert adapted(IDS).shape == base(IDS).shape
    assert not torch.equal(adapted(IDS), base(IDS))


def test_with_a_cache_it_is_torch_that_continues():
    model = attach(tiny_model().eval(), random_adapter(tiny_model()))
    cache = model.new_cache(2, 64)
    with torch.no_grad():
        last = model(IDS[:, :20], cache=cache)
        assert torch.allclose(last[:, 0], model(IDS[:, :20])[:, -1], atol=1e-5)
        assert torch.allclose(model(IDS[:, 20:21], cache=cache)[:, 0], model(IDS[:, :21])[:, -1], atol=1e-5)


def test_on_an_adapter_lies_another():
    """A run with LoRA that starts from a run with LoRA: the ranks add up."""
    model = tiny_model()
    first, second, weights = (
        random_adapter(model, seed=1),
        random_adapter(model, ("attn.c_v",), rank=2, seed=2),
        _weights(model),
    )
    add_to_weights(weights, first, "One")
    add_to_weights(weights, second, "Two")
    both = build_model(model.config, weights, torch.device("cpu"), torch.float32, torch.float32)
    weights = _weights(model)
    add_to_weights(weights, first, "One")
    base = build_model(model.config, weights, torch.device("cpu"), torch.float32, torch.float32)
    assert torch.allclose(both(IDS), attach(base, second)(IDS), atol=1e-4)


def test_on_the_disk_it_is_the_same_to_the_bit(tmp_path):
    model = tiny_model()
    adapter = random_adapter(model, ("attn.c_q", "mlp.c_fc"))
    write_adapter(tmp_path / "adapter", adapter, "starter")
    read = read_adapter(tmp_path / "adapter")
    assert (read.rank, read.alpha, read.matrices.keys()) == (4, 8.0, adapter.matrices.keys())
    for name, pair in adapter.matrices.items():
        assert all(map(torch.equal, read.matrices[name], pair))
    kept = adapter_of(attach(model, read))
    assert all(map(torch.equal, kept.matrices[name], pair))


def test_a_damaged_or_foreign_adapter_is_refused_in_a_sentence(tmp_path):
    folder = tmp_path / "adapter"
    write_adapter(folder, random_adapter(tiny_model()), "starter")
    config = folder / "adapter_config.json"
    text = config.read_text()
    config.write_text(text.replace("LORA", "LOHA"))
    with pytest.raises(ValueError, match=r"has changed since it was saved"):
        read_adapter(folder)
    (folder / "adapter_config.json.sha256").unlink()
    with pytest.raises(ValueError, match=r"is not that of a LoRA adapter"):
        read_adapter(folder)
    config.write_text(text.replace('"use_dora": false', '"use_dora": true'))
    with pytest.raises(ValueError, match=r"says use_dora True, which is not supported"):
        read_adapter(folder)
    config.write_text(text.replace('"r": 4', '"r": 5'))
    with pytest.raises(ValueError, match=r"is no rank 5"):
        read_adapter(folder)
    config.write_text(text)
    (folder / "adapter_model.safetensors.sha256").unlink()
    content = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(content[:-10])
    with pytest.raises(ValueError, match=r"cannot be read"):
        read_adapter(folder)


def test_an_adapter_of_another_shape_does_not_fit():
    weights = _weights(tiny_model(n_embd=128))
    with pytest.raises(ValueError, match=r"The adapter 'x' does not fit its base model at transformer.h.0.attn.c_q"):
        add_to_weights(weights, random_adapter(tiny_model()), "The adapter 'x'")
