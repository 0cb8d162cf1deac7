"""The settings: every flag of the contract with its default, one place for help, file and table, and clear refusals."""

import json
from pathlib import Path

import pytest

from nanochat_core.config import FinetuneConfig, settings, settings_table

CONTRACT = {
    "source": "sft",
    "model_tag": "d32",
    "model_step": None,
    "from_finetuned": None,
    "num_epochs": 1,
    "num_iterations": -1,
    "device_batch_size": 4,
    "target_examples_per_step": 16,
    "matrix_lr": 0.01,
    "embedding_lr": 0.1,
    "unembedding_lr": 0.002,
    "weight_decay": 0.0,
    "init_lr_frac": 0.1,
    "eval_every": 50,
    "eval_steps": 20,
    "val_split": 0.1,
    "split": "spread",
    "output_tag": "finetuned",
    "save_every": -1,
    "device_type": "auto",
    "dtype": "bfloat16",
    "max_seq_len": 2048,
    "seed": 42,
    "replay_path": None,
    "replay_ratio": 0.0,
    "resume": False,
}


def test_every_setting_of_the_contract_has_its_default():
    config = FinetuneConfig("data.jsonl")
    assert {name: getattr(config, name) for name in CONTRACT} == CONTRACT


def test_help_file_and_readme_come_from_the_one_list(capsys):
    from nanochat_core.cli.main import main

    with pytest.raises(SystemExit) as exit_:
        main(["finetune", "--help"])
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert settings_table() in readme
    for setting in settings():
        assert f"--{setting.name.replace('_', '-')}" in text
        assert setting.help in text
        assert setting.help.endswith(".")
    assert [setting.name for setting in settings()] == list(FinetuneConfig("data.jsonl").to_dict())


def test_a_config_survives_its_file():
    config = FinetuneConfig("data.jsonl", num_epochs=3, replay_path="general.jsonl", replay_ratio=0.5, model_step=7)
    assert FinetuneConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("data_path", "", "give the JSONL file"),
        ("source", "pretrain", "base, mid, sft, rl"),
        ("num_epochs", 0, "at least 1"),
        ("num_iterations", 0, "at least 1, or -1"),
        ("num_iterations", -2, "at least 1, or -1"),
        ("device_batch_size", 0, "at least 1"),
        ("matrix_lr", float("nan"), "0 or more"),
        ("matrix_lr", -0.1, "0 or more"),
        ("init_lr_frac", 0.0, "above 0"),
        ("val_split", 1.0, "between 0 and 1"),
        ("max_seq_len", 4, "at least 8"),
        ("device_type", "tpu", "auto"),
        ("dtype", "float16", "bfloat16 or float32"),
        ("replay_ratio", 0.5, "replay_path"),
        ("num_epochs", "3", "type must be int"),
        ("num_epochs", True, "type must be int"),
        ("model_step", "newest", "type must be int"),
        ("replay_path", 5, "type must be str"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_remedy(name, value, remedy):
    with pytest.raises(ValueError, match=name) as error:
        FinetuneConfig(**{"data_path": "data.jsonl", name: value})
    assert remedy in str(error.value)


def test_a_misspelt_setting_in_a_file_is_refused():
    with pytest.raises(ValueError, match="There is no setting num_epoch:"):
        FinetuneConfig.from_dict({"data_path": "data.jsonl", "num_epoch": 3})


def test_paths_become_valid_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = FinetuneConfig("data.jsonl").with_absolute_paths()
    assert config.data_path == str(tmp_path / "data.jsonl")
    assert config.replay_path is None


def test_the_base_models_name():
    assert FinetuneConfig("x").base_name == "pretrained/d32"
    assert FinetuneConfig("x", model_tag="starter").base_name == "starter"
    assert FinetuneConfig("x", from_finetuned="mine").base_name == "finetuned/mine"
    assert FinetuneConfig("x", from_finetuned="mine").base_source is None
    assert FinetuneConfig("x", source="base").base_source == "base"


@pytest.mark.parametrize("tag", ["", "../x"])
def test_a_name_that_is_no_folder_is_refused_with_one_sentence(tag):
    with pytest.raises(ValueError, match=r"^The output_tag '.*' (is empty|begins with).*Use letters.*my-bakery-2\.$"):
        FinetuneConfig(data_path="a.jsonl", output_tag=tag)


@pytest.mark.parametrize(
    "name", [setting.name for setting in settings() if setting.kind in (int, float) and not setting.is_optional]
)
def test_every_number_has_an_upper_bound(name):
    for value in (10**400, 2**63):
        with pytest.raises(ValueError, match=f"Setting {name} is .*: it must "):
            FinetuneConfig("data.jsonl", **{name: value})
