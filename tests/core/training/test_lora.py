"""Runs with LoRA: the adapter is learned and saved alone, the run resumes bit for bit, and its model loads by name."""

import json
import shutil

import pytest
import torch

from nanochat_core import Engine, Run, finetune, load_model
from nanochat_core.checkpoint.adapters import read_adapter
from nanochat_core.export.export import export
from nanochat_core.paths import find_model, list_models, steps
from nanochat_core.runs.launcher import room_needed
from tests.support.exporting import random_ids
from tests.support.short_training import changed, short_training
from tests.support.transformers_twin import loaded, relative


@pytest.fixture
def config(home):
    lora = {"method": "lora", "lora_rank": 4, "lora_lr": 0.01, "num_epochs": 2, "save_every": 3, "eval_every": 4}
    return changed(short_training(home), **lora)


def _assert_same_runs(one: Run, other: Run, step: int) -> None:
    first, second = (read_adapter(run.path / f"adapter_{step:06d}") for run in (one, other))
    for name, pair in first.matrices.items():
        assert all(map(torch.equal, pair, second.matrices[name]))
    states = [torch.load(run.resume_dir / f"state_{step:06d}.pt", weights_only=True) for run in (one, other)]
    for name, values in states[0]["optimizers"].items():
        for key, value in values.items():
            assert torch.equal(value, states[1]["optimizers"][name][key])
    columns = ["step", "train_loss", "val_loss", "tokens"]
    losses = [run.metrics()[columns].astype(float).fillna(-1).values.tolist() for run in (one, other)]
    assert losses[0] == losses[1]


def test_the_adapter_alone_is_learned_and_saved(config):
    run = finetune(config)
    losses = run.metrics()["train_loss"].dropna()
    assert losses.iloc[-2:].mean() < 0.9 * losses.iloc[:2].mean()
    assert steps(run.path) == [3, 6, 8]
    assert not list(run.path.glob("model_*"))
    assert {path.name for path in (run.path / "adapter_000008").iterdir()} == {
        *("adapter_config.json", "adapter_config.json.sha256"),
        *("adapter_model.safetensors", "adapter_model.safetensors.sha256"),
    }
    assert [model.name for model in list_models()] == ["starter", "pretrained/tiny", f"finetuned/{run.tag}"]
    assert "LoRA of rank 4 at attn,mlp: 9,216 numbers are trained" in run.log_tail(200)


def test_stop_and_resume_equals_straight_on(config, monkeypatch):
    straight = finetune(config)
    stopped = changed(config, output_tag="stopped")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_requested", lambda run: run.metrics()["train_loss"].count() >= 4)
        run = finetune(stopped)
    assert (run.status().state, run.status().step) == ("stopped", 4)
    run = finetune(changed(stopped, resume=True))
    assert run.status().state == "finished"
    _assert_same_runs(straight, run, 8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_loads_by_its_name_as_base_and_adapter(config, monkeypatch, dtype):
    if dtype == "bfloat16":
        monkeypatch.setattr("nanochat_core.training.setup.choose_compute_dtype", lambda *_: torch.bfloat16)
    run = finetune(config)
    name = f"finetuned/{run.tag}"
    (base, _, _), (model, tokenizer, meta) = load_model("pretrained/tiny"), load_model(name)
    assert meta["adapter"]["base"] == "pretrained/tiny"
    for key, parameter in base.named_parameters():
        is_same = torch.equal(parameter, model.get_parameter(key))
        assert is_same != (".attn.c_" in key or ".mlp.c_" in key)
    reply = Engine(model, tokenizer).reply([{"role": "user", "content": "Which word?"}], max_tokens=4, temperature=0.0)
    assert isinstance(reply, str)


def test_peft_loads_the_adapter_onto_transformers_export_of_the_base(config, tmp_path):
    from peft import PeftModel

    run = finetune(config)
    name = f"finetuned/{run.tag}"
    ours, _, _ = load_model(name)
    adapter = export(name, tmp_path / "adapter", format="peft")
    assert {path.name for path in adapter.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    merged = loaded(export(name, tmp_path / "merged"))
    base = loaded(export("pretrained/tiny", tmp_path / "base"))
    with torch.no_grad():
        whole, bare = merged(random_ids()).logits, base(random_ids()).logits
        for folder in (adapter, run.path / "adapter_000008"):
            theirs = PeftModel.from_pretrained(loaded(tmp_path / "base"), folder).eval()(random_ids()).logits
            assert (theirs - whole).abs().max() < 1e-4 < (bare - whole).abs().max()
        assert relative(whole, ours(random_ids())) < 1e-3  # transformers does not round its angles to bf16


def test_nanochat_gets_it_merged(config, tmp_path):
    run = finetune(config)
    folder = export(f"finetuned/{run.tag}", tmp_path / "out", format="nanochat")
    [checkpoint] = (folder / "chatsft_checkpoints").iterdir()
    whole, _, _ = load_model(str(checkpoint))
    ours, _, _ = load_model(f"finetuned/{run.tag}")
    with torch.no_grad():
        assert torch.equal(whole(random_ids()), ours(random_ids()))


def test_a_model_that_is_no_adapter_has_none_to_export(config, tmp_path):
    with pytest.raises(ValueError, match=r"'pretrained/tiny' is no adapter.*Use --format transformers"):
        export("pretrained/tiny", tmp_path / "out", format="peft")


def test_full_training_starts_from_the_merged_weights(config):
    first = finetune(config)
    full = changed(config, output_tag="full", method="full", from_finetuned=first.tag, num_iterations=1)
    after = finetune(full)
    last, start = first.metrics()["val_loss"].dropna().iloc[-1], after.metrics()["val_loss"].dropna().iloc[0]
    assert start == pytest.approx(last, abs=1e-5)
    assert find_model("finetuned/full").weights.name == "model_000001.pt"


def test_lora_starts_from_a_run_with_lora(config):
    first = finetune(config)
    second = finetune(changed(config, output_tag="second", from_finetuned=first.tag, lora_targets="c_v"))
    last, start = (run.metrics()["val_loss"].dropna() for run in (first, second))
    assert start.iloc[0] == pytest.approx(last.iloc[-1], abs=1e-5)
    assert load_model("finetuned/second")[2]["adapter"]["base"] == f"finetuned/{first.tag}"


def test_a_base_that_is_gone_or_another_is_refused_in_a_sentence(config, home):
    run = finetune(config)
    base = find_model("pretrained/tiny")
    other = base.weights.read_bytes()
    base.weights.write_bytes(other[:-1] + bytes([other[-1] ^ 1]))
    base.weights.with_name(f"{base.weights.name}.sha256").unlink()
    with pytest.raises(ValueError, match=r"another file than the one that it was trained on \(its SHA-256 differs\)"):
        load_model(f"finetuned/{run.tag}")
    shutil.rmtree(base.folder)
    with pytest.raises(ValueError, match=r"belongs to the model 'pretrained/tiny' of step 7, which is not here"):
        load_model(f"finetuned/{run.tag}")


def test_an_adapter_takes_little_room(config, home):
    base = find_model("pretrained/tiny")
    assert room_needed(config, base) < room_needed(changed(config, method="full"), base) / 50


def test_settings_that_cannot_be(config):
    for changes, sentence in (
        ({"method": "qlora"}, "method is 'qlora': use full or lora"),
        ({"lora_targets": "attn,c_x"}, "lora_targets is 'attn,c_x': name some of c_q"),
        ({"lora_rank": 0}, "lora_rank is 0: it must be at least 1"),
        ({"lora_lr": -1.0}, "lora_lr is -1.0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            changed(config, **changes)
    assert changed(config, lora_targets="c_q, mlp").lora_modules == ("attn.c_q", "mlp.c_fc", "mlp.c_proj")


def test_the_record_says_of_which_file_the_adapter_is(config):
    run = finetune(config)
    noted = json.loads((run.path / "meta_000008.json").read_text())["adapter"]
    assert (noted["base"], noted["step"], noted["source"], len(noted["sha256"])) == ("pretrained/tiny", 7, "sft", 64)


@pytest.mark.parametrize("memory", ["checkpointed", "layerwise", "offloaded", "offloaded_all"])
def test_every_memory_mode_learns_the_same_adapter(config, memory):
    plain = finetune(changed(config, num_epochs=1, memory="plain"))
    other = finetune(changed(config, num_epochs=1, memory=memory, output_tag=memory))
    _assert_same_runs(plain, other, 4)
