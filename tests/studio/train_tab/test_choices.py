"""What is chosen in the Train tab becomes a config, and the command and the cell that make the same one."""

import dataclasses
import json
import shlex

import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import find_file
from nanochat_core.runs import as_code
from nanochat_core.runs.run import Run
from studio.train_tab import choices
from tests.e2e.invented import EXAMPLE
from tests.support.training_form import form, write_form_data


@pytest.fixture
def data(home):
    return write_form_data(home)


def test_the_form_and_what_is_chosen_elsewhere_are_all_settings():
    every = {field.name for field in dataclasses.fields(FinetuneConfig)}
    assert {*choices.form_names(), *choices.CHOSEN_ELSEWHERE} == every
    assert choices.form_names()[: len(choices.ESSENTIAL)] == list(choices.ESSENTIAL)


def test_a_form_gives_the_config(data):
    config = choices.make_config("starter", data, " mine ", form(num_epochs=3.0, replay_path="", replay_ratio=0))
    assert choices.make_config("starter", data, "mine", form(model_step=" 7 ")).model_step == 7
    assert config.model_step is None
    assert (config.num_epochs, type(config.num_epochs)) == (3, int)
    assert (config.output_tag, config.replay_path, config.model_tag) == ("mine", None, "starter")


@pytest.mark.parametrize(
    ("base", "path", "tag", "changes", "said"),
    [
        ("starter", "", "mine", {}, "No dataset"),
        ("starter", "x.jsonl", " ", {}, "no name"),
        ("nothing", "x.jsonl", "mine", {}, "No base model"),
        ("starter", "x.jsonl", "mine", {"num_epochs": None}, "num_epochs is empty"),
        ("starter", "x.jsonl", "mine", {"num_epochs": 1.5}, "whole number"),
        ("starter", "x.jsonl", "mine", {"model_step": "last"}, "whole number"),
        ("starter", "x.jsonl", "mine", {"num_epochs": 0}, "at least 1"),
    ],
)
def test_what_cannot_work_is_said(base, path, tag, changes, said):
    with pytest.raises(ValueError, match=said):
        choices.make_config(base, path, tag, form(**changes))


@pytest.mark.parametrize("value", ["starter", "pretrained/mid/d32", "finetuned/mine"])
def test_a_base_is_read_back_from_its_settings(value):
    assert choices.base_value(FinetuneConfig(data_path="x", **choices.base_settings(value))) == value


def test_settings_are_saved_and_loaded(data, tmp_path):
    config = choices.make_config("starter", data, "mine", form(seed=7))
    path = tmp_path / "settings.json"
    path.write_text(choices.settings_json(config))
    assert choices.read_settings(path) == config
    path.write_text(json.dumps({"settings": config.to_dict(), "versions": {}}))  # a run's config.json
    assert choices.read_settings(path) == config
    path.write_text('{"data_path": "x", "learning_rate": 1}')
    with pytest.raises(ValueError, match="learning_rate"):
        choices.read_settings(path)
    path.write_text("[1]")
    with pytest.raises(ValueError, match="no settings"):
        choices.read_settings(path)


def test_a_name_is_suggested_that_is_free(home, data):
    assert choices.suggest_tag(data) == "mine"
    (home / "models" / "finetuned" / "mine").mkdir(parents=True)
    assert choices.suggest_tag(data) == "mine-2"
    assert choices.suggest_tag("/x/My data (1).jsonl") == "My-data--1"


def test_questions_lie_beside_the_data(data):
    assert choices.questions_beside(data) is None
    questions = data.replace("_data.jsonl", "_questions.jsonl")
    open(questions, "w").close()
    assert choices.questions_beside(data) == questions


@pytest.mark.parametrize("changes", [{}, {"num_epochs": 3, "seed": 9}, {"replay_path": None, "replay_ratio": 0.0}])
@pytest.mark.parametrize("base", ["starter", "pretrained/mid/d32"])
def test_the_command_and_the_cell_make_the_same_config(base, changes, data, monkeypatch):
    from nanochat_core.cli import finetune as command_line
    from nanochat_core.cli.main import main

    config = choices.make_config(
        base, data, "my run", {**choices.preset_values(choices.PRESETS[0], base, data), **changes}
    )
    made = []
    monkeypatch.setattr(command_line, "_detached", lambda config, nproc, nodes: made.append((config, nproc)) or 0)
    words = shlex.split(as_code.shell_command(config, 2, "0,3"))
    assert words[:5] == ["CUDA_VISIBLE_DEVICES=0,3", "python", "-m", "nanochat_core", "finetune"]
    assert main(words[4:]) == 0
    monkeypatch.setattr(
        "nanochat_core.runs.launcher.start_run",
        lambda config, nproc=1: made.append((config, nproc)) or Run("x", EXAMPLE),
    )
    exec(as_code.notebook_cell(config, 2), {})
    found = [
        (dataclasses.replace(one, data_path=str(find_file(one.data_path))), nproc) for one, nproc in made
    ]  # short in both
    assert found == [(config, 2), (config, 2)]
