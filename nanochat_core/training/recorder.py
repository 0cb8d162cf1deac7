"""A training's one link to its run: it writes metrics, status, log and checkpoints, and it sees a wish to stop."""

import time
from collections.abc import Callable
from typing import Any

from nanochat_core.checkpoint.checksums import write_checksum
from nanochat_core.checkpoint.writing import save_tokenizer
from nanochat_core.compute.devices import peak_memory
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.data.training_data import Reading, TrainingData, load_training_data
from nanochat_core.evaluation.validation import Validation
from nanochat_core.paths import ModelFiles, find_model, steps
from nanochat_core.runs.run import Run
from nanochat_core.runs.stopping import StopFlag, StoppedEarly
from nanochat_core.tokenizer.tokenizer import Tokenizer
from nanochat_core.training.saving import Progress, Saver
from nanochat_core.training.setup import Setup, StepResult, base_files, set_up

STATUS_SECONDS = 1.0
"""Shortest time between two of the steps that status.json tells of."""


class Recorder:
    """Every rank has one and calls the same methods; rank 0 alone writes."""

    def __init__(self, run: Run, ranks: Ranks, stop: StopFlag, say: Callable[[str], None]):
        self.run, self.ranks, self.say = run, ranks, say
        self.config: FinetuneConfig = run.settings()
        self._stop = stop
        self._saver = Saver(run, ranks, self.config.save_every)
        self.resumed_step = self._saver.newest()
        """The step whose checkpoint the training resumes from; None for one that starts at its base model."""
        if self.resumed_step is None and steps(run.path):
            raise ValueError(
                f"Run '{run.tag}' cannot be resumed: its folder resume/ is gone. Start a new run from its model: "
                f"--from_finetuned {run.tag} --output_tag NAME."
            )
        self._last_status = time.monotonic()

    # Before the first step

    def set_up(self) -> tuple[Setup, Progress]:
        """What the run trains with, at the point where it starts or resumes.

        StoppedEarly, on every rank, when any was asked to stop while the data was read.
        """
        setup = set_up(self.config, self.ranks, self._model_files(), self._load_data)
        if self.ranks.is_first:
            self._saver.remove_leftovers(self.resumed_step)
        if self.resumed_step is None:
            return setup, Progress()
        return setup, self._saver.restore(self.resumed_step, setup.model, setup.optimizers)

    def _model_files(self) -> ModelFiles:
        """The base model, or, in a resumed run, the run's own checkpoint."""
        if self.resumed_step is None:
            return base_files(self.config)
        return find_model(f"finetuned/{self.run.tag}", self.resumed_step)

    def _load_data(self, tokenizer: Tokenizer) -> TrainingData:
        """Rank 0 checks and tokenizes the data; the others wait, and then find a large file in the cache."""
        if self.ranks.is_first and self.resumed_step is None:
            save_tokenizer(self.run.path, tokenizer)
            for name in ("tokenizer.pkl", "token_bytes.pt"):
                write_checksum(self.run.path / name)
        data, mistake = None, None
        if self.ranks.is_first:
            try:
                data = load_training_data(self.config, tokenizer, self.ranks.world, self.say, self._reading())
            except ValueError as error:  # the others must not wait for one that has given up
                mistake = str(error)
            except StoppedEarly:
                self._stop.set()
        if mistake := self.ranks.same_for_all(mistake):
            raise ValueError(mistake)
        if self.must_stop():
            raise StoppedEarly
        if self.ranks.is_first:
            self.run.write_status(doing=None)
        return data or load_training_data(self.config, tokenizer, self.ranks.world)

    def _reading(self) -> Callable[[int, int], None]:
        """Called at every block of a data file: a large one takes longer to read than a stop may wait."""
        said = Reading(self.say, self.run.write_status)

        def read(done: int, size: int) -> None:
            if self._is_asked_to_stop():
                raise StoppedEarly
            said(done, size)

        return read

    def describe(self, setup: Setup) -> None:
        """Say what is about to happen."""
        precision = setup.precision
        if precision != self.config.dtype:
            precision += f" (this device is slower with {self.config.dtype})"
        processes = f"{self.ranks.world} processes" if self.ranks.world > 1 else "1 process"
        base, device = self.config.base_name, self.ranks.device.type
        if self.ranks.is_first:
            self.run.write_status(device=device, dtype=setup.precision)
        self.say(f"Base model {base}: {setup.parameter_count:,} parameters, {device}, {precision}.")
        for note in setup.data.notes:
            self.say(note)
        self.say(
            f"{setup.steps} steps of {self.config.target_examples_per_step} conversations "
            f"({setup.plan.steps_per_epoch} an epoch), {processes}."
        )
        used, there = len(setup.validation_set), len(setup.data.validation)
        if used < there:
            self.say(f"Validation uses the first {used} of its conversations (eval_steps).")
        if self.resumed_step is not None:
            self.say(f"Resuming from the checkpoint of step {self.resumed_step}.")

    # While it trains

    def must_stop(self) -> bool:
        """Whether any rank was asked to stop: agreed between all, so that none waits for another in vain."""
        return self.ranks.sum([float(self._is_asked_to_stop())])[0] > 0

    def _is_asked_to_stop(self) -> bool:
        return self._stop.is_set or (self.ranks.is_first and self.run.stop_requested())

    def note_begin(self, setup: Setup, progress: Progress) -> None:
        """The training starts or resumes after `progress`."""
        self._write_status(setup, progress, state="running", step=progress.step, steps=setup.steps)

    def note_step(self, setup: Setup, progress: Progress, result: StepResult, tokens_per_second: float) -> None:
        """A step was made, the last one of `progress`."""
        self._append(
            setup,
            progress,
            tokens=progress.tokens,
            train_loss=result.train_loss,
            lr_mult=result.multiplier,
            grad_norm=result.grad_norm,
            tokens_per_s=tokens_per_second,
            memory_bytes=int(peak_memory(self.ranks.device)),
        )
        if progress.step % max(1, setup.steps // 100) == 0:
            self.say(
                f"step {progress.step}/{setup.steps} | train loss {result.train_loss:.4f} | "
                f"{tokens_per_second:,.0f} tokens/s | lr x {result.multiplier:.3f}"
            )
        if time.monotonic() - self._last_status > STATUS_SECONDS or progress.step in (1, setup.steps):
            changes = {"train_loss": result.train_loss, "tokens_per_s": tokens_per_second}
            self._write_status(setup, progress, step=progress.step, **changes)

    def note_validation(self, setup: Setup, progress: Progress, result: Validation) -> None:
        """The model was validated after the last step of `progress`, which knows the best one so far."""
        best = progress.best_val_loss if progress.best_val_loss is not None else result.loss
        self._append(setup, progress, val_loss=result.loss, val_bpb=result.bits_per_byte, best_val_loss=best)
        self.say(f"step {progress.step}/{setup.steps} | validation loss {result.loss:.4f}")
        changes = {"val_loss": result.loss, "best_val_loss": best, "best_step": progress.best_step}
        self._write_status(setup, progress, step=progress.step, **changes)

    def save(self, setup: Setup, progress: Progress, val_loss: float | None) -> None:
        """Leave a checkpoint to resume from. val_loss: the newest, None before there is any."""
        meta = {"val_loss": val_loss, "user_config": self.config.to_dict(), "base_model": self.config.base_name}
        self._saver.save(setup.model, setup.optimizers, progress, meta)

    def note_stopping(self) -> None:
        """What follows is the last checkpoint of a run that was asked to stop."""
        if self.ranks.is_first:
            self.run.write_status(state="stopping")

    def _append(self, setup: Setup, progress: Progress, **values: float) -> None:
        """One line of metrics at the present step."""
        if self.ranks.is_first:
            step = progress.step
            epoch = step / setup.plan.steps_per_epoch
            self.run.append_metrics({"step": step, "epoch": epoch, "time": time.time(), **values})

    def _write_status(self, setup: Setup, progress: Progress, **values: Any) -> None:
        if not self.ranks.is_first:
            return
        eta = progress.seconds / progress.step * (setup.steps - progress.step) if progress.step else None
        self.run.write_status(epoch=progress.step / setup.plan.steps_per_epoch, eta_seconds=eta, **values)
        self._last_status = time.monotonic()
