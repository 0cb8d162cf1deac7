"""Writes down how well the model knew each row when it met it, and keeps the data that the run was trained on."""

from pathlib import Path

from nanochat_core.runs import metrics, row_losses
from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import keep_data
from nanochat_core.training.saving import Progress
from nanochat_core.training.setup import Setup
from nanochat_core.training.step import StepResult


class RowRecorder:
    """Called by the recorder of rank 0: what a step finds out is the same on every rank."""

    def __init__(self, run: Run):
        self.run = run

    def begin(self, setup: Setup, progress: Progress) -> str | None:
        """The training starts or resumes after `progress`; a sentence when there is something to say."""
        path = self.run.rows_file
        if progress.step == 0:
            row_losses.begin(path, len(setup.data.conversations), setup.data.validation.rows.tolist())
        else:
            metrics.rewind(path, progress.step)
        return keep_data(self.run, Path(setup.config.data_path))

    def note(self, progress: Progress, result: StepResult) -> None:
        """A step was made, the last one of `progress`."""
        if self.run.rows_file.is_file():  # a run of before that is resumed has no beginning to go on from
            own = [(one.index, one.nats, one.tokens) for one in result.examples if not one.is_replay]
            row_losses.note(self.run.rows_file, progress.step, own)
