"""A run's notebook repeats the run, refuses other data, and is what Jupyter takes for a notebook."""

import json
from pathlib import Path

import nbformat
import pytest

from nanochat_core import FinetuneConfig, Run, finetune, notebook_of
from nanochat_core.paths import shipped
from nanochat_core.runs.as_code import config_call, notebook_cell
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.presets import with_preset
from tests.support.kernels import run_cells
from tests.support.tiny import install_tiny_model, write_conversations


@pytest.fixture
def config(home):
    """Six steps of a tiny model, with a seed and a folder that are not the usual ones."""
    install_tiny_model(home)
    folder = home / 'it\'s "here" `and` {there}'
    folder.mkdir()
    settings = {"num_iterations": 6, "dtype": "float32", "seed": 7, "init_lr_frac": 0.5}
    data = write_conversations(folder / "data.jsonl", 12)
    return FinetuneConfig(str(data), model_tag="tiny", output_tag="mi`n'e", **settings)


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def read(text):
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.mark.processes
def test_it_repeats_the_run_to_the_last_digit(config, home):
    first = finetune(config)
    notebook = read(notebook_of(first))
    outputs = run_cells(code_of(notebook), home)
    assert [run.tag for run in Run.list()] == ["mi`n'e-2", "mi`n'e"]
    again = Run.open("mi`n'e-2")
    assert again.status().state == "finished"
    losses = [run.metrics()["train_loss"].dropna().tolist() for run in (first, again)]
    assert losses[0] == losses[1]
    assert again.settings().to_dict() == {**first.settings().to_dict(), "output_tag": "mi`n'e-2"}
    _, data, training, chart, chat = outputs
    assert "12 faultless conversations" in data[0].data["text/html"]
    assert '<progress max="6" value="6"' in training[0].data["text/html"]
    assert "image/png" in chart[0].data
    assert chat[0].text.startswith("Which word is number 11? please please please\n")


def test_other_data_is_refused_before_anything_starts(config):
    run = create_run(config)
    code = code_of(read(notebook_of(run)))
    write_conversations(Path(config.data_path), 13)
    names = {}
    exec(code[0], names)
    with pytest.raises(ValueError, match="has changed since the run was made"):
        exec(code[1], names)
    write_conversations(Path(config.data_path), 12)
    exec(code[1], names)


def test_a_config_gives_the_notebook_of_a_run_to_come(config):
    code = "\n".join(code_of(read(notebook_of(config, nproc=2))))
    assert "start_run(config, nproc=2)" in code
    made = create_run(config)
    assert made.record()["data"]["sha256"] in code


def test_a_data_file_that_is_not_there_is_said(config):
    with pytest.raises(ValueError, match=r"cannot be read .*Correct data_path"):
        notebook_of(FinetuneConfig("nowhere.jsonl"))


def test_a_tag_is_no_run():
    with pytest.raises(ValueError, match="'mine' is no run and no config"):
        notebook_of("mine")


def test_a_resumed_run_is_repeated_from_its_beginning(config):
    resumed = FinetuneConfig.from_dict({**config.to_dict(), "resume": True})
    assert notebook_of(resumed) == notebook_of(config)
    assert "resume=" not in notebook_of(resumed)


def test_odd_names_stay_text(config):
    run = create_run(FinetuneConfig.from_dict({**config.to_dict(), "output_tag": "[x](y) $z$ ünï"}))
    notebook = read(notebook_of(run))
    assert notebook.cells[0].source.startswith("# Run \\[x\\](y)")
    assert "'[x](y) $z$ ünï'" in "\n".join(code_of(notebook))


def test_the_same_run_gives_the_same_text(config):
    run = create_run(config)
    assert notebook_of(run) == notebook_of(run)
    ids = [cell["id"] for cell in json.loads(notebook_of(run))["cells"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("changes", [{}, {"num_epochs": 3, "replay_ratio": 0.0}, {"questions_path": "q.jsonl"}])
def test_the_cell_to_copy_and_the_notebook_give_the_same_settings(changes):
    config = with_preset(data_path="data/example_data.jsonl", model_tag="starter", output_tag="mine", **changes)
    names = {"with_preset": with_preset, "DATA": config.data_path, "tag": "mine"}
    assert eval(config_call(config), names) == config
    assert config_call(config) in notebook_cell(config)
    training = next(text for text in code_of(read(notebook_of(config))) if "with_preset(\n" in text)
    assert eval(training[training.index("with_preset(") : training.index("run = ")], names) == config


def test_the_projects_data_is_named_as_it_is_typed():
    config = with_preset(data_path=str(shipped("data/example_data.jsonl")), model_tag="starter")
    assert "DATA = 'data/example_data.jsonl'" in "\n".join(code_of(read(notebook_of(config))))
