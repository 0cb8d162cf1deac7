"""Where things lie: the home folder by environment, checkout and system, and files that are found from any folder."""

import sys
from pathlib import Path

import pytest

from nanochat_core import paths
from nanochat_core.system.spawn import child_environment

ROOT = paths.PROJECT_ROOT


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package's folder as a wheel puts it into site-packages, with what is shipped inside."""
    package = tmp_path / "site-packages" / "nanochat_core"
    (package / "shipped" / "data").mkdir(parents=True)
    (package / "shipped" / "data" / "example_data.jsonl").write_text("{}\n")
    monkeypatch.setattr(paths, "PROJECT_ROOT", package.parent)
    monkeypatch.delenv("NANOCHAT_STUDIO_HOME", raising=False)
    paths.checkout.cache_clear()
    yield package
    paths.checkout.cache_clear()


def test_home_is_the_checkout_or_the_folder_that_a_person_names(monkeypatch, tmp_path):
    monkeypatch.delenv("NANOCHAT_STUDIO_HOME", raising=False)
    assert paths.checkout() == ROOT
    assert paths.home() == ROOT
    monkeypatch.setenv("NANOCHAT_STUDIO_HOME", str(tmp_path))
    assert paths.home() == tmp_path
    monkeypatch.setenv("NANOCHAT_STUDIO_HOME", "~/studio")
    assert paths.home() == Path.home() / "studio"


@pytest.mark.parametrize(
    ("system", "variable", "folder"),
    [
        ("linux", None, ".local/share"),
        ("linux", "XDG_DATA_HOME", "mine"),
        ("darwin", "XDG_DATA_HOME", "Library/Application Support"),
        ("win32", None, "AppData/Local"),
        ("win32", "LOCALAPPDATA", "mine"),
    ],
)
def test_home_of_an_installed_package_is_where_the_system_keeps_data(
    installed, monkeypatch, tmp_path, system, variable, folder
):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "mine"))
    assert paths.checkout() is None
    assert paths.download_command() == "nanochat download"
    assert paths.home() == tmp_path / folder / "nanochat-studio"


def test_another_projects_folder_is_no_checkout(installed, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (installed.parent / "pyproject.toml").write_text('[project]\nname = "other"\ndependencies = ["nanochat-studio"]\n')
    assert paths.checkout() is None
    assert child_environment({})["PYTHONPATH"] == ""


def test_what_is_shipped_lies_in_the_package_or_beside_it(installed, monkeypatch):
    example = "data/example_data.jsonl"
    assert paths.shipped(example) == installed / "shipped" / example
    monkeypatch.undo()
    assert paths.shipped(example) == ROOT / example


def test_a_file_is_found_where_one_is_then_at_home_then_among_what_is_shipped(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = "data/example_data.jsonl"
    assert paths.find_file(example) == ROOT / example
    for folder in (home, tmp_path):
        (folder / "data").mkdir()
        (folder / example).write_text("{}\n")
        assert paths.find_file(example).resolve() == folder / example


def test_a_file_that_is_nowhere_keeps_the_name_that_was_typed(home):
    assert paths.find_file("data/mine.jsonl") == Path("data/mine.jsonl")
    assert paths.find_file("~/mine.jsonl") == Path.home() / "mine.jsonl"


def test_a_file_is_found_where_it_lies_since_home_or_the_checkout_was_moved(home, tmp_path):
    (home / "data").mkdir()
    (home / "data" / "mine.jsonl").write_text("{}\n")
    (home / "mine.jsonl").write_text("{}\n")
    assert paths.find_moved("/old/home/data/mine.jsonl") == str(home / "data" / "mine.jsonl")
    assert paths.find_moved("/old/place/starter/eval.jsonl") == str(paths.shipped("starter/eval.jsonl"))
    # One name alone says too little of which file it was.
    assert paths.find_moved("/old/mine.jsonl") == "/old/mine.jsonl"
    there = tmp_path / "data" / "mine.jsonl"
    assert paths.find_moved(str(there)) == str(home / "data" / "mine.jsonl")
    there.parent.mkdir()
    there.write_text("{}\n")
    assert paths.find_moved(str(there)) == str(there)  # what is there is never looked for elsewhere


def test_other_processes_find_this_code_before_any_other(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert child_environment({})["PYTHONPATH"].split(":") == [str(ROOT), "/elsewhere"]
    monkeypatch.delenv("PYTHONPATH")
    assert child_environment({})["PYTHONPATH"] == str(ROOT)
