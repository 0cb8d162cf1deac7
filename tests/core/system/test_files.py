"""Files are replaced whole, and what a killed process left of one is removed."""

import os

import pytest

from nanochat_core.paths import list_models, steps
from nanochat_core.system.files import remove_leftovers, write_atomically


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path, monkeypatch):
    def killed(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # as a kill leaves it: the clean-up does not run either
        patch.setattr(os, "replace", killed)
        patch.setattr(os, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "mine.jsonl", b"half")
    [left] = tmp_path.iterdir()
    others = [tmp_path / name for name in ("mine.jsonl", "notes.tmp", ".mine.tmp", ".hidden")]
    for path in others:
        path.write_text("a person's")
        os.utime(path, (0, 0))
    remove_leftovers(tmp_path)  # it may be in the making
    assert left.exists()
    os.utime(left, (0, 0))
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)
    remove_leftovers(tmp_path / "not" / "there")


def test_a_folder_that_cannot_be_read_hides_no_other_model(home, monkeypatch):
    closed = home / "models" / "finetuned" / "closed"
    closed.mkdir(parents=True)
    real = os.listdir

    def listdir(path="."):
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert steps(closed) == []
    assert [model.name for model in list_models()] == ["starter"]
