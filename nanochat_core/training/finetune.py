"""Training a run in this process, from its start to its end: the loop, the questions around it, the ending."""

import contextlib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from filelock import Timeout

from nanochat_core.checkpoint.checksums import digest
from nanochat_core.compute.ranks import Ranks, joined_ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.evaluation.before_after import SAMPLES, Summary
from nanochat_core.paths import find_model, steps
from nanochat_core.runs.claiming import claim, training_lock
from nanochat_core.runs.failures import Failure, explain, is_lost_peer
from nanochat_core.runs.launcher import adopt_memory, check_resumable, create_run
from nanochat_core.runs.nodes import host_name, node_of, restarts_left, with_paths_here
from nanochat_core.runs.run import Run
from nanochat_core.runs.snapshot import with_files_as_they_were
from nanochat_core.runs.status import NOTHING_WRONG
from nanochat_core.runs.stopping import (
    ORPHAN_EXIT_STATUS,
    StopFlag,
    StoppedEarly,
    launcher_from_environment,
    stop_signals,
    watch_launcher,
)
from nanochat_core.runs.watching import in_notebook, shown_meanwhile
from nanochat_core.system.disk import DiskFull
from nanochat_core.training.recorder import Recorder
from nanochat_core.training.saving import Progress
from nanochat_core.training.setup import Setup, base_files
from nanochat_core.training.step import Diverged
from nanochat_core.training.trainer import Outcome, Trainer

_AGAIN = "A process was lost. The training starts again from its last checkpoint as soon as all machines are there."
_INTERRUPTED = "It was interrupted before it could save."
_TOLD = "In plain words: "
_LOCK_SECONDS = 5.0  # whoever looks whether the lock is held holds it for a moment


def finetune(config: FinetuneConfig) -> Run:
    """Train in this process (under torchrun: in these processes) and return the run.

    Everything is written to models/finetuned/<output_tag>/. With config.resume the run resumes with the settings
    that it was made with. Ctrl-C, in a notebook "interrupt the kernel", saves and stops. A notebook shows a progress
    bar instead of the log's lines (`run.log_tail()` has them).
    Raises ValueError for a person's mistake and Diverged when the loss is no number. Whatever else ends the training
    is said in a sentence, too, and `was_told`.
    """
    with stop_signals() as stop, joined_ranks(config.device_type) as ranks:
        mistake = None
        if ranks.is_first:
            try:
                _prepare(config, ranks)
            except ValueError as error:  # the other ranks must not wait for one that has given up
                mistake = str(error)
        if mistake := ranks.same_for_all(mistake):
            raise ValueError(mistake)
        run = Run.open(config.output_tag)
        with shown_meanwhile(run) if ranks.is_first else contextlib.nullcontext():
            _train(run, ranks, stop)
    return run


def _prepare(config: FinetuneConfig, ranks: Ranks) -> None:
    """Make or reopen the run, and make this process its only trainer."""
    if config.resume:
        run = Run.open(config.output_tag)
        check_resumable(run, config)
    else:
        run = create_run(config)
    claim(run, sys.argv)
    if config.resume:
        adopt_memory(run, config)
    run.write_launch(nproc=ranks.world)
    run.clear_stop()


def train_run(run: Run) -> Outcome:
    """Train a run that was made and claimed by its launcher, in this process as one of its ranks."""
    with stop_signals() as stop, joined_ranks(run.settings().device_type) as ranks:
        is_replaced = node_of(os.environ) is not None and restarts_left() > 0  # by a machine that joins again
        watch_launcher(launcher_from_environment(), _leave if is_replaced else stop.set, run.path)
        return _train(run, ranks, stop)


def _leave() -> None:
    os._exit(ORPHAN_EXIT_STATUS)


def _train(run: Run, ranks: Ranks, stop: StopFlag) -> Outcome:
    say = _speaker(run) if ranks.is_first else _silence
    with _only_trainer(run, ranks):
        return _train_alone(run, ranks, stop, say)


@contextlib.contextmanager
def _only_trainer(run: Run, ranks: Ranks) -> Iterator[None]:
    """Hold the run's lock while it is trained. ValueError, on every rank, when another process holds it."""
    lock, mistake = training_lock(run), None
    try:
        if ranks.is_first:
            try:
                lock.acquire(timeout=_LOCK_SECONDS)
            except Timeout:
                mistake = f"Another process is training run '{run.tag}' in {run.path}. Wait for it, or stop it first."
        if mistake := ranks.same_for_all(mistake):
            raise ValueError(mistake)
        yield
    finally:
        lock.release()


def _train_alone(run: Run, ranks: Ranks, stop: StopFlag, say: Callable[[str], None]) -> Outcome:
    try:
        _note_start(run, ranks)
        with ranks.agreed():
            config = _with_files_here(run, say)
        _check_same_base(run, ranks)
        recorder = Recorder(run, config, ranks, stop, say)
        setup, progress = recorder.set_up()
        if ranks.is_first:
            run.rewind_metrics(-1 if recorder.resumed_step is None else recorder.resumed_step)
        setup = setup.gauged(run.resume_dir / "base.pt", is_new=recorder.resumed_step is None)
        recorder.describe(setup)
        summary = Summary(run, setup.config, _samples(setup), say) if ranks.is_first else None
        if summary and recorder.resumed_step is None:  # a resumed model is no longer the one before the training
            summary.take("before", setup.model, setup.tokenizer)
        ranks.wait()
        outcome = Trainer(setup, progress, recorder).train()
        if summary and outcome.state == "finished":
            summary.take("after", setup.model, setup.tokenizer)
            summary.print()
        if ranks.is_first:
            _say_outcome(run, setup.steps, progress, outcome, say)
            eta = 0.0 if outcome.state == "finished" else None
            run.write_status(state=outcome.state, step=outcome.step, eta_seconds=eta)
        return outcome
    except StoppedEarly:
        if ranks.is_first:
            say(f"Stopped before the training began. Resume it: python -m nanochat_core runs resume {run.quoted}")
            run.write_status(state="stopped", doing=None, eta_seconds=None)
        return Outcome("stopped", run.status().step, None, None)
    except KeyboardInterrupt:
        if ranks.is_first:
            remedy = f"Resume from its last checkpoint with `python -m nanochat_core runs resume {run.quoted}`."
            run.write_status(state="stopped", eta_seconds=None, error=_INTERRUPTED, remedy=remedy)
            say(f"{_INTERRUPTED} {remedy}")
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        caused_here = ranks.world == 1 or not is_lost_peer(message)  # else the supervisor knows which rank died of what
        if ranks.is_first and _starts_again(error) and not run.has_ended():
            run.write_status(state="starting", doing=_AGAIN, eta_seconds=None)
        elif ranks.is_first and caused_here:
            why = explain(Failure(ranks.rank, 1, message), run.tag, run.settings())
            run.write_status(**why.to_status(ranks.rank))
            is_detached = run.read_launch().get("detached")
            if not is_detached and not isinstance(error, ValueError | Diverged | DiskFull):
                # The worker of a detached run prints it there.
                with contextlib.suppress(OSError), open(run.log_file, "a", encoding="utf-8") as log:
                    traceback.print_exc(file=log)
            if not why.is_mistake or is_detached:  # else it is said by the caller
                say(f"{why.error} {why.remedy}")
            if not why.is_mistake and not is_detached:
                error.add_note(f"{_TOLD}{why.error} {why.remedy}")
        raise
    finally:
        if ranks.is_first:
            run.unpacked_data_file.unlink(missing_ok=True)


def was_told(error: Exception) -> bool:
    """Whether `error` ended a training that has said so in a sentence and kept the traceback in its log."""
    return any(note.startswith(_TOLD) for note in getattr(error, "__notes__", ()))


def _say_outcome(run: Run, steps: int, progress: Progress, outcome: Outcome, say: Callable[[str], None]) -> None:
    name = f"finetuned/{run.tag}"
    if outcome.state == "stopped":
        say(f"Stopped after step {outcome.step} of {steps}.")
        say(f"Resume it: python -m nanochat_core runs resume {run.quoted}")
        return
    if outcome.first_validation is not None and outcome.last_validation is not None:
        say(f"Validation loss: {outcome.first_validation:.4f} before, {outcome.last_validation:.4f} after.")
    best = progress.best_step
    if best is not None and best != outcome.step:
        answered = (
            f"Most questions, {progress.best_correct}, were answered" if progress.best_correct else "It was lowest"
        )
        say(f"{answered} at step {best} (loss {progress.best_val_loss:.4f}): {find_model(name, best).weights}.")
    say(f"The model: {find_model(name, outcome.step).weights}")
    say(f"Talk to it: python -m nanochat_core chat --model {shlex.quote(name)}")


def _samples(setup: Setup) -> list[dict[str, Any]]:
    return [setup.data.conversations[example.index] for example in setup.data.validation[:SAMPLES]]


def _note_start(run: Run, ranks: Ranks) -> None:
    """Say that the training starts, on which machines, and whether it did so before in this launch."""
    hosts = ranks.every(host_name())
    if not ranks.is_first:
        return
    status = run.status()
    facts: dict[str, Any] = {} if status.restarts is None else {"restarts": status.restarts + 1}
    if status.nodes is not None:
        facts["nodes"] = hosts[:: ranks.world // (status.nodes_wanted or 1)]
    run.write_status(state="starting", **NOTHING_WRONG, **facts)


def _starts_again(error: Exception) -> bool:
    """Whether torchrun starts the processes again after `error`. Not for what would only happen again."""
    return restarts_left() > 0 and not isinstance(error, ValueError | Diverged)


def _with_files_here(run: Run, say: Callable[[str], None]) -> FinetuneConfig:
    """The run's settings with its files on this machine. ValueError when they are not those that it was made with."""
    config = with_files_as_they_were(run, with_paths_here(run.settings()), say)
    if not steps(run.path):
        base_files(config)
    return config


def _check_same_base(run: Run, ranks: Ranks) -> None:
    """ValueError, on every rank, when the machines start from different files: they would never agree on a weight."""
    if node_of(os.environ) is None or steps(run.path):
        return
    is_one_of_its_machine = os.environ.get("LOCAL_RANK") == "0"  # a file of gigabytes is read once on each
    found = ranks.every(digest(base_files(run.settings()).weights) if is_one_of_its_machine else "")
    if len(set(filter(None, found))) > 1:
        raise ValueError(
            f"The base model {run.settings().base_name} is not the same file on all machines. Copy the first one's to "
            "the others."
        )


def _speaker(run: Run) -> Callable[[str], None]:
    """Prints, and keeps what was printed in the run's log (a detached run's output already goes there).

    In a notebook the log alone gets it: there a card shows how the run goes.
    """
    quiet = in_notebook()
    if run.read_launch().get("detached"):
        return lambda text: print(text, flush=True)

    def say(text: str) -> None:
        if not quiet:
            with contextlib.suppress(OSError):  # `... | head`, or a closed terminal, must not end the training
                print(text, flush=True)
        with open(run.log_file, "a", encoding="utf-8") as log:
            log.write(text + "\n")

    return say


def _silence(text: str) -> None:
    """Ranks other than the first say nothing."""
