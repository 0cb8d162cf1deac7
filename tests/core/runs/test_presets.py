"""The starter's settings reach the starter and its descendants, and nobody else."""

import json
import shutil

import pytest

from nanochat_core import FinetuneConfig, with_preset
from nanochat_core.paths import shipped, starter_dir
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.presets import describe_preset, original_base, preset_of
from tests.support.tiny import write_conversations


@pytest.fixture
def preset():
    return json.loads((starter_dir() / "preset.json").read_text(encoding="utf-8"))


def test_the_starter_brings_its_settings(home, preset):
    config = with_preset(data_path="data.jsonl", model_tag="starter")
    for name, value in preset.items():
        expected = str(shipped(value)) if name == "replay_path" else value
        assert getattr(config, name) == expected
    assert config.init_lr_frac > FinetuneConfig("data.jsonl").init_lr_frac
    sentence = describe_preset(preset_of("starter"), config)
    assert f"init_lr_frac {config.init_lr_frac}" in sentence
    assert len(sentence.splitlines()) == 1


def test_what_a_person_sets_comes_first(home):
    config = with_preset(data_path="data.jsonl", model_tag="starter", init_lr_frac=0.01)
    assert config.init_lr_frac == 0.01
    assert "init_lr_frac" not in describe_preset(preset_of("starter"), config)


def test_d32_never_gets_them(home):
    assert with_preset(data_path="data.jsonl") == FinetuneConfig("data.jsonl")
    assert preset_of("pretrained/d32") == {}


def test_the_starters_descendants_get_them_too(home):
    data = str(write_conversations(home / "data.jsonl"))
    child = create_run(FinetuneConfig(data, model_tag="starter", output_tag="child"))
    create_run(FinetuneConfig(data, from_finetuned="child", output_tag="grandchild"))
    create_run(FinetuneConfig(data, output_tag="of_d32"))
    shutil.rmtree(child.path)  # a parent may be deleted
    assert original_base("finetuned/grandchild") == "starter"
    assert with_preset(data_path=data, from_finetuned="grandchild").init_lr_frac > 0.1
    assert with_preset(data_path=data, from_finetuned="of_d32").init_lr_frac == 0.1


def test_the_replay_set_and_questions_are_shipped(preset):
    assert shipped(preset["replay_path"]).is_file()
    assert (starter_dir() / "eval.jsonl").is_file()
