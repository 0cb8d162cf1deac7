"""The training loop of a run: every rank runs it, rank 0 alone writes, and a stop leaves a checkpoint to go on from."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch

from nanochat_core import paths
from nanochat_core.checkpoint.loading import build_model
from nanochat_core.checkpoint.reading import model_config, read_meta, read_weights
from nanochat_core.checkpoint.writing import save_tokenizer
from nanochat_core.compute.cpu import prepare_computing
from nanochat_core.compute.devices import choose_compute_dtype
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.data.survey import Progress as DataProgress
from nanochat_core.data.tokens.plan import Plan
from nanochat_core.data.training_data import Reading, TrainingData, load_training_data
from nanochat_core.evaluation.validation import Validation, validate
from nanochat_core.model.gpt import GPT
from nanochat_core.runs.run import Run
from nanochat_core.runs.stopping import StopFlag, StoppedEarly
from nanochat_core.system.processes import peak_bytes
from nanochat_core.tokenizer.rendering import Example
from nanochat_core.tokenizer.tokenizer import Tokenizer
from nanochat_core.training.optimizers import build_optimizers, learning_rate_multiplier, set_learning_rates
from nanochat_core.training.saving import Progress, Saver
from nanochat_core.training.step import TrainingStep

STATUS_SECONDS = 1.0
SAVE_SECONDS = 600.0
"""A validation this long after the last checkpoint saves one even when the loss has not improved."""


class Diverged(RuntimeError):
    """The loss is no longer a number; training on would only make it worse."""


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

    def __init__(self, run: Run, ranks: Ranks, stop: StopFlag, say: Callable[[str], None]):
        self.run, self.ranks, self.stop, self.say = run, ranks, stop, say
        self.config: FinetuneConfig = run.settings()
        if ranks.device.type == "cpu":
            prepare_computing()
        self.saver = Saver(run, ranks, self.config.save_every)
        self.resumed_step = self.saver.newest()
        if self.resumed_step is None and paths.steps(run.path):
            raise ValueError(
                f"Run '{run.tag}' cannot be resumed: its folder resume/ is gone. Start a new run from its model: "
                f"--from_finetuned {run.tag} --output_tag NAME."
            )
        self.model, self.tokenizer = self._load_base()
        self.data: TrainingData = self._load_data()
        self.plan = Plan(
            self.data.train,
            self.data.replay,
            self.config.replay_ratio,
            self.config.target_examples_per_step,
            self.config.seed,
        )
        iterations = self.config.num_iterations
        self.steps = iterations if iterations > 0 else self.config.num_epochs * self.plan.steps_per_epoch
        self.validation_set = self.data.validation[: self.config.eval_steps * self.config.target_examples_per_step]
        self.token_bytes = torch.tensor(self.tokenizer.token_bytes())
        self.optimizers = build_optimizers(self.model, self.config)
        self.take_step = TrainingStep(self.model, self.optimizers, ranks, self.config.device_batch_size)
        self.parameters = self.take_step.parameters
        self.progress = Progress()
        if self.resumed_step is not None:
            self.progress = self.saver.restore(self.resumed_step, self.model, self.optimizers)
        self._last_status = self._last_save = time.monotonic()

    def describe(self) -> None:
        """Say what is about to happen."""
        count = sum(parameter.numel() for parameter in self.parameters)
        precision = str(self.model.compute_dtype).removeprefix("torch.")
        if precision != self.config.dtype:
            precision += f" (this device is slower with {self.config.dtype})"
        processes = f"{self.ranks.world} processes" if self.ranks.world > 1 else "1 process"
        self.say(f"Base model {self.config.base_name}: {count:,} parameters, {self.ranks.device.type}, {precision}.")
        for note in self.data.notes:
            self.say(note)
        self.say(
            f"{self.steps} steps of {self.config.target_examples_per_step} conversations "
            f"({self.plan.steps_per_epoch} an epoch), {processes}."
        )
        if len(self.validation_set) < len(self.data.validation):
            self.say(f"Validation uses the first {len(self.validation_set)} of its conversations (eval_steps).")
        if self.resumed_step is not None:
            self.say(f"Going on from the checkpoint of step {self.resumed_step}.")

    def train(self) -> Outcome:
        """Train from where the run is to its last step, or until it is asked to stop. Leaves a checkpoint either way.

        Raises Diverged when the loss is no number; the last checkpoint then stays as it is.
        """
        progress = self.progress
        self._write_status(state="running", step=progress.step, steps=self.steps)
        first = last = self._validate().loss if progress.step == 0 else None
        for examples in islice(self.plan.steps_from(progress.step), self.steps - progress.step):
            if self._must_stop():
                return self._end("stopped", first, last)
            self._step(examples)
            validation = None
            if progress.step % self.config.eval_every == 0 or progress.step == self.steps:
                validation = self._validate()
                last = validation.loss
            if self._save_is_due(validation):
                self._save(last)
        return self._end("finished", first, last)

    def _step(self, examples: list[Example]) -> None:
        """One optimizer step over `examples`, this rank computing its share."""
        started = time.monotonic()
        progress = self.progress
        multiplier = learning_rate_multiplier(progress.step, self.steps, self.config.init_lr_frac)
        set_learning_rates(self.optimizers, multiplier)
        train_loss, grad_norm = self.take_step(examples)
        if not (math.isfinite(train_loss) and math.isfinite(grad_norm)):
            raise Diverged(f"The training diverged at step {progress.step + 1}: the loss is no longer a number.")
        tokens = sum(example.inputs for example in examples)
        seconds = time.monotonic() - started
        progress.step += 1
        progress.tokens += tokens
        progress.seconds += seconds
        self._note_step(train_loss, grad_norm, multiplier, tokens / seconds)

    def _note_step(self, train_loss: float, grad_norm: float, multiplier: float, tokens_per_second: float) -> None:
        progress = self.progress
        self._append(
            tokens=progress.tokens,
            train_loss=train_loss,
            lr_mult=multiplier,
            grad_norm=grad_norm,
            tokens_per_s=tokens_per_second,
            memory_bytes=self._memory_bytes(),
        )
        if progress.step % max(1, self.steps // 100) == 0:
            self.say(
                f"step {progress.step}/{self.steps} | train loss {train_loss:.4f} | "
                f"{tokens_per_second:,.0f} tokens/s | lr x {multiplier:.3f}"
            )
        if time.monotonic() - self._last_status > STATUS_SECONDS or progress.step in (1, self.steps):
            self._write_status(step=progress.step, train_loss=train_loss, tokens_per_s=tokens_per_second)

    def _validate(self) -> Validation:
        """Validation loss now, noted; a step with the lowest one so far becomes the best."""
        self.model.eval()
        result = validate(self.model, self.validation_set, self.token_bytes, self.ranks, self.config.device_batch_size)
        progress = self.progress
        if not math.isfinite(result.loss):
            raise Diverged(f"The training diverged by step {progress.step}: the validation loss is not a number.")
        best_so_far = progress.best_val_loss
        if progress.step > 0 and (best_so_far is None or result.loss < best_so_far):
            progress.best_step, progress.best_val_loss = progress.step, result.loss
        best = progress.best_val_loss if progress.best_val_loss is not None else result.loss
        self._append(val_loss=result.loss, val_bpb=result.bits_per_byte, best_val_loss=best)
        self.say(f"step {progress.step}/{self.steps} | validation loss {result.loss:.4f}")
        self._write_status(step=progress.step, val_loss=result.loss, best_val_loss=best, best_step=progress.best_step)
        return result

    def _save_is_due(self, validation: Validation | None) -> bool:
        """After the present step: at every save_every-th; when the validation is the best; at the end."""
        progress = self.progress
        if progress.step == self.steps:
            return True
        if self.config.save_every > 0 and progress.step % self.config.save_every == 0:
            return True
        if validation is None:
            return False
        waited = self.ranks.sum([time.monotonic() - self._last_save])[0] / self.ranks.world
        return progress.best_step == progress.step or waited > SAVE_SECONDS

    def _save(self, val_loss: float | None) -> None:
        meta = {
            "val_loss": val_loss,
            "user_config": self.config.to_dict(),
            "base_model": self.config.base_name,
        }
        self.saver.save(self.model, self.optimizers, self.progress, meta)
        self._last_save = time.monotonic()

    def _end(self, state: str, first: float | None, last: float | None) -> Outcome:
        if self.progress.step > 0 and self.progress.step not in self.progress.saved_steps:
            if self.ranks.is_first and state == "stopped":
                self.run.write_status(state="stopping")
            self._save(last)
        return Outcome(state, self.progress.step, first, last)

    def _must_stop(self) -> bool:
        """Whether any rank was asked to stop: agreed between all, so that none waits for another in vain."""
        return self.ranks.sum([float(self._is_asked_to_stop())])[0] > 0

    def _is_asked_to_stop(self) -> bool:
        return self.stop.is_set or (self.ranks.is_first and self.run.stop_requested())

    def _load_base(self) -> tuple[GPT, Tokenizer]:
        """The base model in fp32, or, in a resumed run, the run's own checkpoint."""
        if self.resumed_step is not None:
            files = paths.find_model(f"finetuned/{self.run.tag}", self.resumed_step)
        else:
            files = paths.find_model(self.config.base_name, self.config.model_step, self.config.base_source)
        weights, meta = read_weights(files.weights), read_meta(files.meta)
        tokenizer = Tokenizer.from_directory(files.tokenizer_dir)
        if self.ranks.is_first and self.resumed_step is None:
            save_tokenizer(self.run.path, tokenizer)
        compute_dtype = choose_compute_dtype(self.config.dtype, self.ranks.device)
        shape = model_config(meta, weights)
        return build_model(shape, weights, self.ranks.device, torch.float32, compute_dtype), tokenizer

    def _load_data(self) -> TrainingData:
        """Rank 0 checks and tokenizes the data; the others wait, and then find a large file in the cache.

        StoppedEarly, on every rank, when any was asked to stop meanwhile.
        """
        ranks, config, data, mistake = self.ranks, self.config, None, None
        if ranks.is_first or ranks.world == 1:
            try:
                data = load_training_data(config, self.tokenizer, ranks.world, self.say, self._reading())
            except ValueError as error:  # the others must not wait for one that has given up
                mistake = str(error)
            except StoppedEarly:
                self.stop.set()
        if mistake := ranks.same_for_all(mistake):
            raise ValueError(mistake)
        if self._must_stop():
            raise StoppedEarly
        if ranks.is_first:
            self.run.write_status(doing=None)
        return data or load_training_data(config, self.tokenizer, ranks.world)

    def _reading(self) -> DataProgress:
        """Called at every block of a data file: a large one takes longer to read than anyone waits for a stop."""
        said = Reading(self.say, self.run.write_status if self.ranks.is_first else None)

        def read(done: int, size: int) -> None:
            if self._is_asked_to_stop():
                raise StoppedEarly
            said(done, size)

        return read

    def _append(self, **values: float) -> None:
        """One line of metrics at the present step."""
        if self.ranks.is_first:
            step = self.progress.step
            self.run.append_metrics(
                {"step": step, "epoch": step / self.plan.steps_per_epoch, "time": time.time(), **values}
            )

    def _write_status(self, **values: object) -> None:
        if not self.ranks.is_first:
            return
        progress = self.progress
        eta = progress.seconds / progress.step * (self.steps - progress.step) if progress.step else None
        epoch = progress.step / self.plan.steps_per_epoch
        self.run.write_status(epoch=epoch, eta_seconds=eta, **values)
        self._last_status = time.monotonic()

    def _memory_bytes(self) -> int:
        """Peak memory so far: of the GPU where there is one, else of the process."""
        if self.ranks.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return int(peak_bytes())
