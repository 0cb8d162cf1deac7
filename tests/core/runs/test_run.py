"""The run directory: created once, under a name that is a folder's, opened and listed."""

import math
import subprocess
import sys

import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.run import Run
from tests.support.recorded_run import write_data


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path)


@pytest.fixture
def run(home, data):
    return create_run(FinetuneConfig(data_path=str(data), output_tag="mine"))


def test_create_records_settings_data_versions_and_base(run, data):
    record = run.record()
    assert run.settings() == FinetuneConfig(data_path=str(data), output_tag="mine")
    assert record["base_model"] == "pretrained/d32"
    assert record["data"]["rows"] == 2
    assert len(record["data"]["sha256"]) == 64
    assert "torch" in record["versions"]
    assert run.status().state == "queued"


def test_paths_are_kept_absolute_for_a_resume_from_elsewhere(home, data, monkeypatch):
    monkeypatch.chdir(data.parent)
    run = create_run(FinetuneConfig(data_path=data.name, replay_path="other.jsonl"))
    assert run.settings().data_path == str(data)
    assert run.settings().replay_path == str(data.parent / "other.jsonl")
    assert run.settings().questions_path is None


def test_create_keeps_the_record_given(home, data):
    settings = FinetuneConfig(data_path=str(data)).to_dict()
    run = Run.create("mine", {"settings": settings, "data": {"rows": 7}, "world_size": 2, "loss": math.nan})
    assert run.record()["data"] == {"rows": 7}
    assert run.record()["world_size"] == 2
    assert run.record()["loss"] is None
    assert run.settings().data_path == str(data)


def test_the_model_a_run_descends_from_is_noted(run, data):
    settings = FinetuneConfig(data_path=str(data), from_finetuned="mine", output_tag="second")
    assert create_run(settings).record()["original_base"] == "pretrained/d32"


def test_create_refuses_an_existing_run_and_names_a_free_tag(run, data):
    (run.path.parent / "mine-2").mkdir()
    with pytest.raises(ValueError, match=r"already a run 'mine'.*--output_tag mine-3.*--resume"):
        create_run(run.settings())


def test_create_refuses_a_folder_with_files_of_others_but_takes_an_empty_one(home, data):
    folder = home / "models" / "finetuned" / "mine"
    folder.mkdir(parents=True)
    (folder / "model_000010.pt").touch()
    with pytest.raises(ValueError, match="--output_tag mine-2"):
        create_run(FinetuneConfig(data_path=str(data), output_tag="mine"))
    (folder / "model_000010.pt").unlink()
    assert create_run(FinetuneConfig(data_path=str(data), output_tag="mine")).path == folder


def test_create_says_when_the_data_is_missing_and_leaves_nothing(home, tmp_path):
    with pytest.raises(ValueError, match=r"gone\.jsonl cannot be read.*data_path"):
        create_run(FinetuneConfig(data_path=str(tmp_path / "gone.jsonl")))
    assert Run.list() == []
    assert not (home / "models").exists()


BAD_TAGS = ["", " ", "..", ".", ".hidden", "a/b", "a\\b", "../up", "-x", "a" * 101, "ü" * 51, "con", "NUL.txt", "Com1"]
BAD_TAGS += ["a:b", "a\nb", "a\x00b", "end.", "end ", "\ud800", "a*b"]


@pytest.mark.parametrize("tag", BAD_TAGS)
def test_a_tag_that_is_no_folder_name_is_refused(home, data, tag):
    with pytest.raises(ValueError, match=r"output_tag .*Use letters"):
        FinetuneConfig(data_path=str(data), output_tag=tag)
    with pytest.raises(ValueError, match="output_tag"):
        Run.create(tag, {})
    with pytest.raises(ValueError, match="output_tag"):
        Run.open(tag)


@pytest.mark.parametrize("tag", ["my-bakery-2", "Bäckerei", "v1.0", "with space", "console", "a" * 100])
def test_ordinary_tags_are_taken(home, data, tag):
    assert create_run(FinetuneConfig(data_path=str(data), output_tag=tag)).tag == tag
    assert Run.open(tag).tag == tag


def test_open_names_the_runs_there_are(run):
    with pytest.raises(ValueError, match=r"no run 'other'.*Runs there: mine"):
        Run.open("other")


def test_list_is_newest_first_and_passes_over_other_folders(run, data):
    newer = create_run(FinetuneConfig(data_path=str(data), output_tag="a-newer"))
    folder = run.path.parent
    (folder / "file").touch()
    (folder / "empty").mkdir()
    for name, text in {
        "torn": '{"settings": {"da',
        "array": "[1]",
        "foreign": '{"model": 1}',
        "binary": "\x00",
    }.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(text)
    assert Run.list() == [newer, run]


def test_list_without_any_folder_is_empty(home):
    assert Run.list() == []


@pytest.mark.processes
def test_reading_runs_does_not_load_torch():
    code = "import sys, nanochat_core.runs.run; assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
