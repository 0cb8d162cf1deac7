"""Which checkpoints a run keeps, and the state beside the newest from which it resumes bit for bit."""

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nanochat_core.checkpoint.checksums import remove_with_checksum, verify_checksum
from nanochat_core.checkpoint.writing import remove_checkpoint, save_checkpoint, take_part_in_saving
from nanochat_core.compute.ranks import Ranks
from nanochat_core.config import FinetuneConfig
from nanochat_core.model.batch import Reference
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import is_table
from nanochat_core.paths import steps
from nanochat_core.runs.run import Run
from nanochat_core.system.files import write_json
from nanochat_core.training.modes.collecting import state_to_collect, weights_to_collect
from nanochat_core.training.modes.mode import Mode

_REFERENCE = "reference.json"
_STATE = re.compile(r"state_(\d{6,})\.pt")
_STEP_FILE = re.compile(r"(?:model_|meta_)(\d{6,})\.(?:pt|json)(?:\.sha256)?")
_OURS = re.compile(r"(?:model_|meta_|state_)\d{6,}\.(?:pt|json)|tokenizer\.pkl|token_bytes\.pt|base\.pt")
"""Files beside which we put their checksum; another one there is a person's."""
_STEP_FOLDER = re.compile(r"adapter_(\d{6,})")


@dataclass
class Progress:
    """How far a run is: what, beside weights and optimizer state, a resumed run must know."""

    step: int = 0
    tokens: int = 0
    """Tokens that went through the model in training."""
    seconds: float = 0.0
    """Time spent in training steps."""
    best_step: int | None = None
    """The checkpointed step that is best by `best_by`; the untrained base does not count."""
    best_val_loss: float | None = None
    """Its validation loss."""
    best_correct: int = 0
    """Where questions decide, how many it answers."""
    without_better: int = 0
    """Validations since."""
    saved_steps: list[int] = field(default_factory=list)

    def note_validation(self, loss: float, correct: int) -> None:
        """The present step's validation: more questions answered are better, and of as many the lower loss."""
        before = self.best_val_loss
        if before is None or (correct, -loss) > (self.best_correct, -before):
            self.best_step, self.best_val_loss, self.best_correct, self.without_better = self.step, loss, correct, 0
        else:
            self.without_better += 1


class Saver:
    """Saves and restores a run's checkpoints. Every method is called by all ranks; rank 0 alone writes."""

    def __init__(self, run: Run, ranks: Ranks, save_every: int):
        """save_every: the multiples of this step are all kept, beside the best and the last; -1: only these two."""
        self.run, self.ranks, self.save_every = run, ranks, save_every

    def save(self, model: GPT, mode: Mode, progress: Progress, meta: dict[str, Any]) -> None:
        """Write checkpoint and resume state of `progress.step`, then remove what they replace."""
        weights = weights_to_collect(mode, self.ranks)
        exact = {name: weight for name, weight in weights.items() if is_table(name)}  # else rounded to bf16
        kept = {step for step in [*progress.saved_steps, progress.step] if self._is_kept(step, progress)}
        replaced = set(progress.saved_steps) - kept
        progress.saved_steps = sorted(kept)
        content = {"progress": vars(progress), "optimizers": state_to_collect(mode, self.ranks), "exact": exact}
        also = {self._state_path(progress.step): content}
        if not self.ranks.is_first:
            self.ranks.announce()
            take_part_in_saving(model, also, weights)
        else:
            save_checkpoint(self.run.path, progress.step, model, meta, also, weights)
            for step, path in self._states().items():
                if step != progress.step:
                    remove_with_checksum(path)
            for step in replaced:
                remove_checkpoint(self.run.path, step)
        self.ranks.wait()

    def _is_kept(self, step: int, progress: Progress) -> bool:
        is_regular = self.save_every > 0 and step % self.save_every == 0
        return is_regular or step in (progress.step, progress.best_step)

    def newest(self) -> int | None:
        """The newest step from which the run can be resumed; None when there is none yet."""
        return max(set(steps(self.run.path)) & set(self._states()), default=None)

    def restore(self, step: int, mode: Mode) -> Progress:
        """Bring a training whose model was loaded from the checkpoint of `step` to exactly that point, in any mode.

        ValueError when the state is damaged.
        """
        path, remedy = self._state_path(step), _other_ways(self.run, step)
        verify_checksum(path, remedy)
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # of several kinds, by the damage; without its checksum nothing is compared
            raise ValueError(f"{path} is damaged or cut short ({type(error).__name__}). {remedy}") from error
        for name, weight in state["exact"].items():
            mode.set_weight(name, weight)
        for name in mode.parts.rules:
            if mode.parts.is_mine(name):
                mode.set_state(name, state["optimizers"][name])
        return Progress(**state["progress"])

    def keep_reference(self, reference: Reference) -> None:
        """Keep what the model said of the rejected answers before the training; called on rank 0."""
        self.run.resume_dir.mkdir(exist_ok=True)
        write_json(self.run.resume_dir / _REFERENCE, {str(index): values for index, values in reference.items()})

    def read_reference(self, config: FinetuneConfig) -> Reference | None:
        """What `keep_reference` kept; None for a run that does not learn from corrections. ValueError: it is gone."""
        path = self.run.resume_dir / _REFERENCE
        if not config.learn_from_corrections:
            return None
        try:
            return {int(index): values for index, values in json.loads(path.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, AttributeError) as error:
            newest = self.newest() or 0
            raise ValueError(f"{path} is gone or damaged. {_other_ways(self.run, newest)}") from error

    def remove_leftovers(self, kept: int | None) -> None:
        """Remove what a killed process left half written. kept: the step that the run resumes from, if any.

        A step's files without its meta, states of other steps, temporary files: nothing that a reader would take.
        """
        for folder in (self.run.path, self.run.resume_dir):
            sums = [path for path in folder.glob("*.sha256") if _OURS.fullmatch(path.stem)]
            for path in [*folder.glob(".*.tmp"), *(path for path in sums if not path.with_suffix("").exists())]:
                path.unlink()
        complete = steps(self.run.path)
        for path in self.run.path.glob("*_*"):
            named = _STEP_FILE.fullmatch(path.name)
            if named and int(named[1]) not in complete and path.is_file():
                path.unlink()
            adapter = _STEP_FOLDER.fullmatch(path.name)
            if adapter and int(adapter[1]) not in complete and path.is_dir():
                shutil.rmtree(path)
        for step, path in self._states().items():
            if step != kept:
                remove_with_checksum(path)

    def _state_path(self, step: int) -> Path:
        return self.run.resume_dir / f"state_{step:06d}.pt"

    def _states(self) -> dict[int, Path]:
        """Step -> its resume state. What has another name is not ours."""
        found = {path: _STATE.fullmatch(path.name) for path in self.run.resume_dir.glob("state_*.pt") if path.is_file()}
        return {int(named[1]): path for path, named in sorted(found.items()) if named}


def _other_ways(run: Run, damaged: int) -> str:
    """The remedy where the state of a step cannot be used."""
    others = [step for step in steps(run.path) if step != damaged]
    at = f" --model_step {others[-1]}" if others else ""
    return (
        "It cannot be resumed from. Start a new run from its model: "
        f"--from_finetuned {run.quoted}{at} --output_tag NAME."
    )
