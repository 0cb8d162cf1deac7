"""Folders of runs: whole or not there, put aside instead of emptied, never reached through a link."""

import os
import subprocess
import sys

import pytest

from nanochat_core import FinetuneConfig, Run
from nanochat_core.paths import PROJECT_ROOT, list_models
from nanochat_core.remote.sync import REMOTE_FILE, WATCHER_LOG
from nanochat_core.runs.claiming import claim
from nanochat_core.runs.folders import delete_folder
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.stopping import BEATS
from studio.runs import facts


@pytest.fixture
def config(home, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"messages": []}\n')
    return FinetuneConfig(data_path=str(data), output_tag="mine")


def _trained(config: FinetuneConfig) -> Run:
    run = create_run(config)
    run.append_metrics({"step": 1})
    for name in ("model_000001.pt", "meta_000001.json", "model_000001.pt.sha256", "tokenizer.pkl", "log.txt"):
        (run.path / name).touch()
    run.write_status(state="finished")
    return run


@pytest.mark.processes
def test_of_many_starters_in_one_moment_one_wins_with_its_own_settings(config):
    code = (
        "import sys\nfrom nanochat_core import FinetuneConfig\nfrom nanochat_core.runs.launcher import create_run\n"
        "config = FinetuneConfig(sys.argv[1], output_tag='mine', seed=int(sys.argv[2]))\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "try: create_run(config); print(config.seed)\nexcept ValueError as error: print('refused', error)"
    )
    words = [sys.executable, "-c", code, config.data_path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": PROJECT_ROOT}
    starters = [subprocess.Popen([*words, str(seed)], **pipes) for seed in range(1, 6)]
    assert [starter.stdout.readline() for starter in starters] == ["ready\n"] * 5
    for starter in starters:
        starter.stdin.write("\n")
        starter.stdin.flush()
    said = [starter.communicate()[0] for starter in starters]
    [winner] = [text for text in said if not text.startswith("refused")]
    assert Run.open("mine").settings().seed == int(winner)
    assert all("already a run 'mine'" in text for text in said if text != winner)
    assert [path.name for path in Run.open("mine").path.parent.iterdir()] == ["mine"]


def test_a_persons_note_survives_the_reuse_of_a_name(config):
    run = create_run(config)
    run.write_status(state="failed")
    (run.path / "note.txt").write_text("the batch was too large")
    again = create_run(config)
    assert again.status().state == "queued"
    assert not (again.path / "note.txt").exists()
    [note] = run.path.parent.glob(".bin/mine-*/note.txt")
    assert note.read_text() == "the batch was too large"
    assert Run.list() == [again]


def test_a_folder_with_a_lone_status_does_not_block_its_name(config, home):
    folder = home / "models" / "finetuned" / "mine"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text("{}")
    assert create_run(config).path == folder


def test_deleting_leaves_nothing_of_a_run_of_several_processes_or_of_a_job(config):
    run = _trained(config)
    (run.path / BEATS).mkdir()
    (run.path / BEATS / "1").write_text("7")
    for name in (REMOTE_FILE, WATCHER_LOG, run.unpacked_data_file.name):
        (run.path / name).touch()
    assert delete_folder(run.path) is None
    assert list(run.path.parent.iterdir()) == []


def test_deleting_takes_what_is_ours_and_leaves_what_is_a_persons(config):
    run = _trained(config)
    (run.path / "thoughts.md").write_text("keep me")
    facts.delete("mine", [])
    assert not run.path.exists()
    assert list_models() == [model for model in list_models() if model.name == "starter"]
    [folder] = (run.path.parent / ".bin").iterdir()
    assert [path.name for path in folder.iterdir()] == ["thoughts.md"]
    other = _trained(config)
    assert delete_folder(other.path) is None


def test_a_deletion_that_was_killed_offers_no_half_model(config, monkeypatch):
    run = _trained(config)
    monkeypatch.setattr(os, "unlink", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        facts.delete("mine", [])
    assert [model.name for model in list_models()] == ["starter"]
    assert Run.list() == []
    assert not run.path.exists()


@pytest.mark.parametrize("inside", [None, "log.txt", "resume"])
def test_nothing_is_written_or_deleted_through_a_link(config, tmp_path, inside):
    run = _trained(config)
    outside = tmp_path / "outside"
    if inside is None:
        os.rename(run.path, outside)
        run.path.symlink_to(outside)
    else:
        (run.path / inside).unlink(missing_ok=True)
        (run.path / inside).symlink_to(outside)
    acts = [lambda: claim(run, []), lambda: facts.delete("mine", []), lambda: facts.rename("mine", "new", [])]
    for act in [*acts, lambda: facts.set_note("mine", "x"), lambda: create_run(config)]:
        with pytest.raises(ValueError, match=r"is a link to .*put a copy in the place"):
            act()
    assert run.path.is_dir()


def test_the_folder_of_all_runs_may_be_a_link_to_a_large_disk(config, home, tmp_path):
    (tmp_path / "disk").mkdir()
    (home / "models").symlink_to(tmp_path / "disk")
    claim(_trained(config), [])
