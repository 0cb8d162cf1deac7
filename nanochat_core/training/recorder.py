"""A training's one link to its run: it writes metrics, status, log and checkpoints, and it sees a wish to stop."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from nanochat_core.checkpoint.checksums import write_checksum
from nanochat_core.checkpoint.reading import base_of_adapter, noted_base
from nanochat_core.checkpoint.writing import save_tokenizer
from nanochat_core.compute.devices import peak_memory
from nanochat_core.compute.energy import EnergyCounter
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.data.training_data import Reading, TrainingData, load_training_data
from nanochat_core.evaluation.validation import Validation
from nanochat_core.paths import ModelFiles, find_model, steps
from nanochat_core.runs.base import note_base_step
from nanochat_core.runs.run import Run
from nanochat_core.runs.stopping import BEATS, StopFlag, StoppedEarly
from nanochat_core.system.disk import cap
from nanochat_core.system.words import plural
from nanochat_core.tokenizer.tokenizer import Tokenizer
from nanochat_core.training.row_recorder import RowRecorder
from nanochat_core.training.saving import Progress, Saver
from nanochat_core.training.setup import Earlier, Setup, base_files, set_up
from nanochat_core.training.step import StepResult

STATUS_SECONDS = 1.0
"""Shortest time between two of the steps that status.json tells of."""
LOG_BYTES = 50 << 20
"""A log grows to this size; then its oldest half is dropped."""
DEAD_STEPS = 20
"""So many steps in a row without learning, or a quarter of a short run, are no accident."""


@dataclass
class Pace:
    """How long steps, validations and checkpoints have taken, and from that how long the rest will take."""

    validation: float = 0.0
    """Seconds of the last one."""
    save: float = 0.0
    saves: int = 0
    """How many there were in this process, and the mean of their seconds in `save`."""
    first_step: int = 0
    """Steps that were done before this process began."""

    def note_save(self, seconds: float) -> None:
        """A checkpoint was written."""
        self.saves += 1
        self.save += (seconds - self.save) / self.saves

    def left(self, progress: Progress, steps: int, eval_every: int) -> float | None:
        """Seconds until the end, the last checkpoint included; None before the first step."""
        if not progress.step:
            return None
        remaining = steps - progress.step
        validations = steps // eval_every - progress.step // eval_every + (steps % eval_every > 0 and remaining > 0)
        saves = self.saves / max(1, progress.step - self.first_step) * remaining
        step = progress.seconds / progress.step
        return remaining * step + validations * self.validation + max(saves, float(remaining > 0)) * self.save


class Recorder:
    """Every rank has one and calls the same methods; rank 0 alone writes."""

    def __init__(self, run: Run, config: FinetuneConfig, ranks: Ranks, stop: StopFlag, say: Callable[[str], None]):
        """config: the run's settings, with the paths of its files on this machine."""
        self.run, self.config, self.ranks, self.say = run, config, ranks, say
        self._stop = stop
        self._saver = Saver(run, ranks, self.config.save_every)
        newest = ranks.same_for_all(str(self._saver.newest()))  # a shared folder may show it later elsewhere
        self.resumed_step = None if newest in (None, "None") else int(newest)
        """The step whose checkpoint the training resumes from; None for one that starts at its base model."""
        if self.resumed_step is None and steps(run.path):
            raise ValueError(
                f"Run '{run.tag}' cannot be resumed: its folder resume/ is gone. Start a new run from its model: "
                f"--from_finetuned {run.quoted} --output_tag NAME."
            )
        self._has_begun_before = run.metrics_file.exists()
        self._last_status = time.monotonic()
        self._pace = Pace()
        self._computed = self._dead_steps = 0
        self._noted_base: dict[str, Any] = {}
        self._rows = RowRecorder(run) if ranks.is_first else None
        self._energy = EnergyCounter(ranks.device)
        self._energy_before = float(run.status().more.get("energy_joules", 0.0))

    # Before the first step

    def set_up(self) -> tuple[Setup, Progress]:
        """What the run trains with, at the point where it starts or resumes.

        StoppedEarly, on every rank, when any was asked to stop while the data was read.
        """
        files, adapter = self._model_files()
        if self.resumed_step is None and self.ranks.is_first:
            note_base_step(self.run, files.step)
        if self.config.method == "lora" and self.ranks.is_first:
            self._noted_base = {"adapter": noted_base(files, self.config.base_source)}
        reference = None if self.resumed_step is None else self._saver.read_reference(self.config)
        earlier = Earlier(adapter, reference)
        setup = set_up(self.config, self.ranks, files, self._load_data, earlier=earlier, folder=self.run.path)
        if self.ranks.is_first:
            self._saver.remove_leftovers(self.resumed_step)
            if reference is None and setup.training_step.reference is not None:
                self._saver.keep_reference(setup.training_step.reference)
        if self.resumed_step is None:
            return setup, Progress()
        return setup, self._saver.restore(self.resumed_step, setup.mode)

    def _model_files(self) -> tuple[ModelFiles, ModelFiles | None]:
        """The base model, or, in a resumed run, the run's own checkpoint; with LoRA the base and that checkpoint."""
        if self.resumed_step is None:
            return base_files(self.config), None
        own = find_model(f"finetuned/{self.run.tag}", self.resumed_step)
        return (base_of_adapter(own), own) if own.is_adapter else (own, None)

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
            self.run.write_status(device=device, dtype=setup.precision, memory=setup.mode.name)
        self.say(f"Base model {base}: {setup.parameter_count:,} parameters, {device}, {precision}.")
        if setup.model.is_adapted:
            rank, targets = self.config.lora_rank, self.config.lora_targets
            self.say(f"LoRA of rank {rank} at {targets}: {setup.trained_count:,} numbers are trained, the base stays.")
        if setup.memory_note or setup.mode.name != "plain":
            self.say(setup.memory_note or f"Memory mode {setup.mode.name}: less memory, the same result.")
        for note in setup.data.notes:
            self.say(note)
        self.say(
            f"{setup.steps} steps of {self.config.target_examples_per_step} conversations "
            f"({setup.plan.steps_per_epoch} an epoch), {processes}."
        )
        batches = -(-self.config.target_examples_per_step // self.config.device_batch_size)
        if batches < self.ranks.world:
            fewer = max(1, self.config.target_examples_per_step // self.ranks.world)
            self.say(
                f"A step has {batches} micro-batches for {self.ranks.world} processes, and some have nothing to do: "
                f"--device_batch_size {fewer} gives each its share."
            )
        used, there = len(setup.validation_set), len(setup.data.validation)
        if used < there:
            self.say(f"Validation uses the first {used} of its conversations (eval_steps).")
        if self.resumed_step is not None:
            self.say(f"Resuming from the checkpoint of step {self.resumed_step}.")
        elif self._has_begun_before:
            self.say("There is no complete checkpoint to resume from: the training starts over at step 0.")

    # While it trains

    def must_stop(self) -> bool:
        """Whether any rank was asked to stop: agreed between all, so that none waits for another in vain."""
        return self.ranks.sum([float(self._is_asked_to_stop())])[0] > 0

    def _is_asked_to_stop(self) -> bool:
        return self._stop.is_set or (self.ranks.is_first and self.run.stop_requested())

    def note_begin(self, setup: Setup, progress: Progress) -> None:
        """The training starts or resumes after `progress`."""
        self._pace.first_step = progress.step
        if self.ranks.world > 1 and self.ranks.node == 0:
            self.ranks.before_waiting.append(self._beat)
        if self.ranks.is_first:
            self.run.reserve()
        if self._rows and (trouble := self._rows.begin(setup, progress)):
            self.say(trouble)
        self._write_status(setup, progress, state="running", step=progress.step, steps=setup.steps)

    def _beat(self) -> None:
        """This rank is about to wait for the others: when all hang, the one that has not come so far holds them up."""
        self._computed += 1
        place = self.run.path / BEATS / str(self.ranks.rank)
        place.parent.mkdir(exist_ok=True)
        place.write_text(str(self._computed))

    def note_step(self, setup: Setup, progress: Progress, result: StepResult, tokens_per_second: float) -> None:
        """A step was made, the last one of `progress`."""
        self._append(
            setup,
            progress,
            tokens=progress.tokens,
            train_loss=result.train_loss,
            lr_mult=result.multiplier,
            grad_norm=result.grad_norm,
            **(asdict(result.preference) if result.preference else {}),
            tokens_per_s=tokens_per_second,
            memory_bytes=int(peak_memory(self.ranks.device)),
        )
        if self._rows:
            self._rows.note(progress, result)
        self._look_for_death(setup, result.train_loss)
        if progress.step % max(1, setup.steps // 100) == 0:
            self.say(
                f"step {progress.step}/{setup.steps} | train loss {result.train_loss:.4f} | "
                f"{tokens_per_second:,.0f} tokens/s | lr x {result.multiplier:.3f}"
            )
        if time.monotonic() - self._last_status > STATUS_SECONDS or progress.step in (1, setup.steps):
            changes = {"train_loss": result.train_loss, "tokens_per_s": tokens_per_second}
            self._write_status(setup, progress, step=progress.step, **changes)

    def _look_for_death(self, setup: Setup, loss: float) -> None:
        """Say once when a loss stays at or above that of a guess: learning rates that are too high destroy a model."""
        guess = math.log(setup.model.config.vocab_size)
        self._dead_steps = self._dead_steps + 1 if loss >= guess else 0
        if self._dead_steps == max(3, min(DEAD_STEPS, setup.steps // 4)):
            is_lora = setup.config.method == "lora"
            lower = "lora_lr" if is_lora else "init_lr_frac, or lower matrix_lr, embedding_lr and unembedding_lr,"
            warning = (
                f"For {self._dead_steps} steps the loss ({loss:.2f}) has been no better than a uniform guess among "
                f"all tokens ({guess:.2f}): the model no longer knows anything, most likely because of learning rates "
                f"that are too high. Stop, and start again from the base model with a lower {lower} under a new "
                "output_tag."
            )
            self.say(warning)
            if self.ranks.is_first:
                self.run.write_status(warning=warning)

    def note_validation(
        self, setup: Setup, progress: Progress, result: Validation, seconds: float, correct: int | None = None
    ) -> None:
        """The model was validated after the last step of `progress`, which knows the best one so far.

        correct: how many questions it answered then, where it was asked.
        """
        self._pace.validation = seconds
        best = progress.best_val_loss if progress.best_val_loss is not None else result.loss
        values = {"val_loss": result.loss, "val_bpb": result.bits_per_byte, "best_val_loss": best}
        distance = ""
        if result.kl_from_base is not None:
            values["kl_from_base"] = result.kl_from_base
            distance = f" | {result.kl_from_base:.4f} nats from the base"
        asked = ""
        if correct is not None:
            values["questions_correct"] = correct
            asked = f" | {correct} questions answered"
        self._append(setup, progress, **values)
        self._note_energy()
        self.say(f"step {progress.step}/{setup.steps} | validation loss {result.loss:.4f}{distance}{asked}")
        changes = {"val_loss": result.loss, "best_val_loss": best, "best_step": progress.best_step}
        self._write_status(setup, progress, step=progress.step, **changes)

    def _note_energy(self) -> None:
        """What the training has taken so far, of all devices; a processor is one, however many processes it has."""
        joules = self._energy.joules()
        counted = joules is not None and (self.ranks.is_first or self.ranks.device.type != "cpu")
        total, known = self.ranks.sum([joules if counted and joules is not None else 0.0, float(counted)])
        everyone = 1 if self.ranks.device.type == "cpu" else self.ranks.world
        if self.ranks.is_first and known == everyone:  # else it would be less than it took
            self.run.write_status(energy_joules=self._energy_before + total, energy_of=self._energy.of)

    def note_early_stop(self, setup: Setup, progress: Progress) -> None:
        """The present step is the last one, earlier than was planned."""
        times = plural(progress.without_better, "validation")
        self.say(f"Stopped early at step {progress.step} of {setup.steps}: {times} without a better checkpoint.")
        self._write_status(setup, progress, step=progress.step, steps=progress.step)

    def save(self, setup: Setup, progress: Progress, val_loss: float | None) -> None:
        """Leave a checkpoint to resume from. val_loss: the newest, None before there is any."""
        asked = self.config.to_dict()
        asked["data_path"] = self.run.record()["settings"]["data_path"]  # also where the run's own copy is trained on
        meta = {"val_loss": val_loss, "user_config": asked, "base_model": self.config.base_name}
        meta |= self._noted_base
        started = time.monotonic()
        self._saver.save(setup.model, setup.mode, progress, meta)
        self._pace.note_save(time.monotonic() - started)

    def note_stopping(self) -> None:
        """What follows is the last checkpoint of a run that was asked to stop."""
        if self.ranks.is_first:
            self.run.write_status(state="stopping", eta_seconds=None)

    def _append(self, setup: Setup, progress: Progress, **values: float) -> None:
        """One line of metrics at the present step."""
        if self.ranks.is_first:
            step = progress.step
            epoch = step / setup.plan.steps_per_epoch
            self.run.append_metrics({"step": step, "epoch": epoch, "time": time.time(), **values})

    def _write_status(self, setup: Setup, progress: Progress, **values: Any) -> None:
        if not self.ranks.is_first:
            return
        eta = self._pace.left(progress, setup.steps, setup.eval_every)
        per_step = progress.seconds / progress.step if progress.step else None
        epoch = progress.step / setup.plan.steps_per_epoch
        self.run.write_status(epoch=epoch, eta_seconds=eta, seconds_per_step=per_step, **values)
        self._last_status = time.monotonic()
        cap(self.run.log_file, LOG_BYTES)
