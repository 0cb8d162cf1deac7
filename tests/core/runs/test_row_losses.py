"""The record of a run's rows: what the trainer writes step by step, a resume and a crash included."""

import json

import numpy as np
import pytest

from nanochat_core import Run, finetune
from nanochat_core.runs import row_losses
from nanochat_core.runs.snapshot import kept_lines
from nanochat_core.training.trainer import Trainer
from tests.support.short_training import changed, short_training


def test_what_is_written_is_read_as_tables(tmp_path):
    path = tmp_path / "rows.jsonl"
    row_losses.begin(path, 4, [3])
    row_losses.note(path, 1, [(0, 6.0, 3), (2, 1.0, 2)])
    row_losses.note(path, 2, [(0, 3.0, 3), (1, float("nan"), 2)])
    with open(path, "ab") as file:
        file.write(b'{"step": 3, "rows": [[1, 2')  # killed while it wrote
    found = row_losses.read(path)
    np.testing.assert_equal(found.first, [2.0, np.nan, 0.5, np.nan])
    np.testing.assert_equal(found.last, [1.0, np.nan, 0.5, np.nan])
    np.testing.assert_equal(found.slow, [1.0, np.nan, np.nan, np.nan])
    assert found.first_step.tolist() == [1, 0, 1, 0]
    assert found.visits.tolist() == [2, 0, 1, 0]
    assert found.validates.tolist() == [False, False, False, True]


def test_a_run_of_before_has_no_record(tmp_path):
    assert row_losses.read(tmp_path / "rows.jsonl") is None


@pytest.fixture
def config(home):
    return short_training(home)


def test_a_training_records_every_row_at_each_of_its_visits(config):
    run = finetune(config)
    found = row_losses.read(run.rows_file)
    trained = ~found.validates
    assert found.validates.sum() == 4
    assert (found.visits[trained] == 5).all()
    assert (found.visits[~trained] == 0).all()
    assert np.isfinite(found.first[trained]).all()
    assert (found.last[trained] < found.first[trained]).mean() > 0.8
    for line in map(json.loads, run.rows_file.read_text().splitlines()[1:]):
        nats, tokens = (sum(row[place] for row in line["rows"]) for place in (1, 2))
        metrics = run.metrics()
        loss = metrics[metrics.step == line["step"]].train_loss.dropna().iloc[0]
        assert nats / tokens == pytest.approx(loss, abs=1e-4)


def test_a_resumed_run_has_the_record_of_one_that_went_straight_on(config, monkeypatch):
    straight = finetune(config)
    step = Trainer.step

    def falls(self, examples):
        if self.progress.step == 12 and self.recorder.resumed_step is None:
            raise RuntimeError("the power is gone")  # two steps after the last checkpoint
        step(self, examples)

    monkeypatch.setattr(Trainer, "step", falls)
    broken = changed(config, output_tag="broken")
    with pytest.raises(RuntimeError, match="power"):
        finetune(broken)
    resumed = finetune(changed(broken, resume=True))
    assert resumed.rows_file.read_bytes() == straight.rows_file.read_bytes()


def test_a_run_keeps_the_data_that_it_was_trained_on(config, home):
    data = home / "data.jsonl"
    lines = data.read_bytes()
    run = finetune(config)
    data.write_text("something else\n")
    assert b"".join(line + b"\n" for _, line in kept_lines(run)) == lines
    assert run.data_file.stat().st_size < len(lines) / 2
    run.data_file.unlink()
    with pytest.raises(ValueError, match="has changed since run 'straight'"):
        list(kept_lines(run))
    data.unlink()
    with pytest.raises(ValueError, match="is gone"):
        list(kept_lines(Run.open("straight")))
