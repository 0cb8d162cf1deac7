"""Which dataset a run was trained on: by its path, else by its content, today or before a save."""

import pytest

from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import keep_data
from nanochat_core.system.files import sha256_of
from studio.data_tab import review_panel
from studio.datasets.files import Dataset, keep_version
from studio.datasets.of_run import dataset_of, find_dataset_of
from studio.datasets.sessions import open_dataset
from tests.e2e.invented import invent_run
from tests.support.tiny import write_conversations


@pytest.fixture
def elsewhere(tmp_path):
    """A file of somebody who has trained from the command line."""
    return write_conversations(tmp_path / "mine.jsonl", 12)


@pytest.fixture
def run(home, elsewhere):
    (home / "data").mkdir()
    return invent_run("mine", steps=20, data_path=str(elsewhere))


def test_a_file_outside_data_is_said_with_what_helps_and_then_known_by_its_content(home, run, elsewhere):
    assert find_dataset_of(run) is None
    with pytest.raises(ValueError, match=r"trained on .*mine\.jsonl, which is not among the datasets here\. Upload it"):
        dataset_of(run)
    here = home / "data" / "another name.jsonl"
    here.write_bytes(elsewhere.read_bytes())
    assert dataset_of(run).path == here
    here.write_bytes(elsewhere.read_bytes() + b"\n")  # as the stat says, another file
    assert find_dataset_of(run) is None


def test_a_dataset_that_was_renamed_and_then_changed_is_still_the_runs(home, run, elsewhere):
    here = home / "data" / "renamed.jsonl"
    elsewhere.rename(here)
    keep_version(here, sha256_of(here))
    here.write_text("")
    write_conversations(home / "data" / "a first one.jsonl", 3)
    assert dataset_of(run).path == here


def test_its_review_is_offered_with_the_runs_record(home, run, elsewhere):
    run.rows_file.touch()
    here = home / "data" / "renamed.jsonl"
    elsewhere.rename(here)
    assert "mine" in [tag for _, tag in review_panel.run_choices(open_dataset(Dataset(here, is_shipped=False)))]


def test_of_one_that_is_gone_the_runs_own_copy_is_named(run, elsewhere):
    keep_data(run, elsewhere)
    elsewhere.unlink()
    with pytest.raises(ValueError, match=r"is not there any more\. Unpack the copy that the run has kept, .*\.gz"):
        dataset_of(Run.open("mine"))
    run.data_file.unlink()
    with pytest.raises(ValueError, match=r"is not there any more\. Upload it in Data"):
        dataset_of(Run.open("mine"))
