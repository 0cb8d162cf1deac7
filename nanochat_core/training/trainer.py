"""The training loop: every rank runs it over its share of each step, and a stop leaves a checkpoint to resume from."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from nanochat_core.evaluation.questions import load_questions
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.training.recorder import Recorder
from nanochat_core.training.saving import Progress
from nanochat_core.training.setup import Setup
from nanochat_core.training.step import Diverged

SAVE_SECONDS = 600.0
"""A validation this long after the last checkpoint saves one even when the loss has not improved."""


@dataclass(frozen=True)
class Outcome:
    """How the training ended."""

    state: str
    """finished or stopped."""
    step: int
    first_validation: float | None
    """Validation loss before the first step; None in a resumed run."""
    last_validation: float | None


class Trainer:
    """One rank's part in the training of a run."""

    def __init__(self, setup: Setup, progress: Progress, recorder: Recorder):
        self.setup, self.progress, self.recorder = setup, progress, recorder
        config = setup.config
        by_questions = config.best_by == "questions" and config.questions_path
        self._questions = load_questions(config.questions_path) if by_questions and config.questions_path else []
        self._last_save = time.monotonic()

    def train(self) -> Outcome:
        """Train from where the run is to its last step, or until it is asked to stop. Leaves a checkpoint either way.

        Raises Diverged when the loss is no number; the last checkpoint then stays as it is.
        """
        progress, steps = self.progress, self.setup.steps
        self.recorder.note_begin(self.setup, progress)
        first = last = self.validate() if progress.step == 0 else None
        for examples in islice(self.setup.plan.steps_from(progress.step), steps - progress.step):
            if 0 < self.setup.config.early_stop <= progress.without_better:  # also of a run that died before it said so
                self.recorder.note_early_stop(self.setup, progress)
                break
            if self.recorder.must_stop():
                return self._end("stopped", first, last)
            self.step(examples)
            is_validated = progress.step % self.setup.eval_every == 0 or progress.step == steps
            if is_validated:
                last = self.validate()
            if self.save_is_due(is_validated):
                self._save(last)
        return self._end("finished", first, last)

    def step(self, examples: Sequence[Example]) -> None:
        """One optimizer step over `examples`, noted."""
        started = time.monotonic()
        progress = self.progress
        result = self.setup.training_step.take(progress.step, examples)
        tokens = sum(example.inputs for example in examples)
        seconds = time.monotonic() - started
        progress.step += 1
        progress.tokens += tokens
        progress.seconds += seconds
        self.recorder.note_step(self.setup, progress, result, tokens / seconds)

    def validate(self) -> float:
        """The validation loss now, noted; a step that is better than all before becomes the best."""
        started, progress, result = time.monotonic(), self.progress, self.setup.validate()
        if not math.isfinite(result.loss):
            raise Diverged(f"The training diverged by step {progress.step}: the validation loss is not a number.")
        correct = self.setup.questions_answered(self._questions) if self._questions else None
        if progress.step > 0:
            progress.note_validation(result.loss, correct or 0)
        self.recorder.note_validation(self.setup, progress, result, time.monotonic() - started, correct)
        return result.loss

    def save_is_due(self, is_validated: bool) -> bool:
        """After the present step: at every save_every-th; when its validation is the best; at the end."""
        progress, save_every = self.progress, self.setup.config.save_every
        if progress.step == self.setup.steps:
            return True
        if save_every > 0 and progress.step % save_every == 0:
            return True
        if not is_validated:
            return False
        ranks = self.setup.ranks
        waited = ranks.sum([time.monotonic() - self._last_save])[0] / ranks.world  # clocks differ, the verdict may not
        return progress.best_step == progress.step or waited > SAVE_SECONDS

    def _save(self, val_loss: float | None) -> None:
        self.recorder.save(self.setup, self.progress, val_loss)
        self._last_save = time.monotonic()

    def _end(self, state: str, first: float | None, last: float | None) -> Outcome:
        progress = self.progress
        if progress.step > 0 and progress.step not in progress.saved_steps:
            if state == "stopped":
                self.recorder.note_stopping()
            self._save(last)
        return Outcome(state, progress.step, first, last)
