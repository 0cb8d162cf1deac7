"""Models exported for transformers, loaded by it: the same logits, the same ids, the same replies."""

import json
from pathlib import Path

import pytest
import torch

from nanochat_core import Engine, load_model
from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.export import safetensors
from nanochat_core.export.export import export
from tests.support.exporting import random_ids, tiny_folder
from tests.support.transformers_twin import loaded, relative, rounded_angles

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize("padding", [0, 576])
def test_transformers_gives_our_logits(home, tmp_path, kv_heads, padding):
    folder = tiny_folder(tmp_path / "model", n_head=4, n_kv_head=kv_heads, padded_vocab_size=padding)
    model, _, _ = load_model(str(folder))
    twin = loaded(export(str(folder), tmp_path / "out"))
    assert twin.dtype == torch.float32
    with torch.no_grad():
        ours = model(random_ids())
        assert relative(twin(random_ids()).logits, ours) < 1e-3  # as it comes
        assert relative(rounded_angles(twin)(random_ids()).logits, ours) < 1e-5


def test_bf16_weights_are_ours_rounded_once(tiny_path, tmp_path):
    twin = loaded(export(tiny_path, tmp_path / "out", dtype="bfloat16"))
    assert twin.dtype == torch.bfloat16
    model, _, _ = load_model(tiny_path, dtype=torch.bfloat16)
    ours = dict(model.named_parameters())
    assert torch.equal(twin.model.layers[1].self_attn.k_proj.weight, ours["transformer.h.1.attn.c_k.weight"])
    assert torch.equal(twin.model.embed_tokens.weight, ours["transformer.wte.weight"])
    assert torch.equal(twin.lm_head.weight, ours["lm_head.weight"])
    rounded = model.float()
    rounded.compute_dtype = torch.float32
    with torch.no_grad():
        assert (
            relative(loaded(tmp_path / "out", dtype=torch.float32)(random_ids()).logits, rounded(random_ids())) < 1e-3
        )


def test_large_models_are_split_over_several_files(tiny_path, tmp_path, monkeypatch):
    whole = loaded(export(tiny_path, tmp_path / "whole"))
    monkeypatch.setattr(safetensors, "MAX_SHARD_BYTES", 200_000)
    out = export(tiny_path, tmp_path / "split")
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert max(path.stat().st_size for path in out.glob("*.safetensors")) < 210_000
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    split = loaded(out)
    assert index["metadata"]["total_size"] == 4 * sum(tensor.numel() for tensor in split.state_dict().values())
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, split.state_dict()[name]), name


def test_the_safetensors_library_reads_the_same_tensors(tmp_path):
    from safetensors import safe_open

    tensors = {"one": torch.randn(3, 5), "two": torch.randn(4, 6).T, "none": torch.zeros(0, 2), "last": torch.ones(7)}
    safetensors.write_safetensors(tmp_path / "file.safetensors", tensors, torch.bfloat16)
    with safe_open(tmp_path / "file.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        for name, tensor in tensors.items():
            assert torch.equal(file.get_tensor(name), tensor.bfloat16())


def test_configuration(tiny_path, tmp_path):
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    out = export(tiny_path, tmp_path / "out")
    config = AutoConfig.from_pretrained(out)
    assert (config.model_type, config.architectures) == ("nanochat", ["NanoChatForCausalLM"])
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (64, 256, 2)
    assert (config.vocab_size, config.max_position_embeddings) == (512, 256)
    assert (config.rms_norm_eps, config.final_logit_softcapping, config.hidden_act) == (1.1920929e-07, 15.0, "relu2")
    assert config.rope_parameters["rope_theta"] == 10_000.0
    assert config.tie_word_embeddings is False
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (503, 507, 507)
    generation = GenerationConfig.from_pretrained(out)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (503, [507, 503], 507)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (503, 507, 507)
    assert (len(tokenizer), tokenizer.model_max_length) == (512, 256)
    assert sorted(tokenizer.all_special_ids) == list(range(503, 512))


QUESTIONS = ["Hello!", "What is the capital of France?", "Who are you?", "What is the opposite of hot?", "Sing for me."]


@pytest.fixture(scope="module")
def starter_out(tmp_path_factory):
    return export("starter", tmp_path_factory.mktemp("exported") / "starter")


def test_the_starter_as_it_comes(starter_out):
    model, _, _ = load_model("starter")
    twin = loaded(starter_out)
    with torch.no_grad():
        assert relative(twin(random_ids(4096)).logits, model(random_ids(4096))) < 1e-3
        assert relative(rounded_angles(twin)(random_ids(4096)).logits, model(random_ids(4096))) < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_starter_says_the_same(starter_out, tmp_path, dtype):
    from transformers import AutoTokenizer

    out = starter_out if dtype == "float32" else export("starter", tmp_path / "out", dtype=dtype)
    twin, theirs = loaded(out), AutoTokenizer.from_pretrained(out)
    assert str(twin.dtype) == f"torch.{dtype}"
    model, tokenizer, _ = load_model("starter")
    engine = Engine(model, tokenizer)
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        prompt = theirs.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
        ids = twin.generate(**prompt, max_new_tokens=32, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        expected = engine.reply(messages, max_tokens=32, temperature=0)
        assert expected
        assert theirs.decode(ids, skip_special_tokens=True) == expected


@pytest.mark.parametrize("generation", "BCDE")
def test_generations_unknown_to_transformers(home, tmp_path, generation):
    folder = tiny_folder(tmp_path / "model", generation=generation)
    with pytest.raises(ValueError, match=f"generation {generation}; transformers has .* Export it with --format nano"):
        export(str(folder), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "model"]


def test_the_readmes_code(tiny_path, tmp_path, capsys):
    """What the README shows works as it stands: a reply through transformers, and mlx-lm's names."""
    from safetensors.torch import load_file

    out = export(tiny_path, tmp_path / "out")
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Use it elsewhere")[1].split("\n## ")[0]
    blocks = [part.split("```")[0] for part in section.split("```python\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        assert '"models/exported/mine"' in block
        exec(block.replace("models/exported/mine", str(out)), {})
    assert capsys.readouterr().out
    renamed, expected = load_file(out / "model.safetensors"), read_weights(Path(tiny_path) / "model_000007.pt")
    assert set(renamed) == set(expected)
    assert all(torch.equal(renamed[name], expected[name].float()) for name in expected)
