"""Which checkpoints a run keeps, and the state beside the newest from which it resumes bit for bit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nanochat_core.checkpoint.writing import remove_checkpoint, save_checkpoint, verify_checksum
from nanochat_core.compute.ranks import Ranks
from nanochat_core.model.generations import is_table
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import steps, weights_path
from nanochat_core.runs.run import Run
from nanochat_core.system.files import write_atomically
from nanochat_core.training.optimizers import collect_state, load_state


@dataclass
class Progress:
    """How far a run is: what, beside weights and optimizer state, a resumed run must know."""

    step: int = 0
    tokens: int = 0
    """Tokens that went through the model in training."""
    seconds: float = 0.0
    """Time spent in training steps."""
    best_step: int | None = None
    """The checkpointed step with the lowest validation loss; the untrained base does not count."""
    best_val_loss: float | None = None
    saved_steps: list[int] = field(default_factory=list)


class Saver:
    """Saves and restores a run's checkpoints. Every method is called by all ranks; rank 0 alone writes."""

    def __init__(self, run: Run, ranks: Ranks, save_every: int):
        """save_every: the multiples of this step are all kept, beside the best and the last; -1: only these two."""
        self.run, self.ranks, self.save_every = run, ranks, save_every

    def save(self, model: GPT, optimizers: list[torch.optim.Optimizer], progress: Progress, meta: dict) -> None:
        """Write checkpoint and resume state of `progress.step`, then remove what they replace."""
        state = collect_state(model, optimizers)
        kept = {step for step in [*progress.saved_steps, progress.step] if self._is_kept(step, progress)}
        replaced = set(progress.saved_steps) - kept
        progress.saved_steps = sorted(kept)
        if self.ranks.is_first:
            save_checkpoint(self.run.path, progress.step, model, meta)
            content = {"progress": vars(progress), "optimizers": state, "exact": _exact_tables(model)}
            write_atomically(self._state_path(progress.step), lambda file: torch.save(content, file))
            for path in self._state_paths():
                if path != self._state_path(progress.step):
                    path.unlink()
            for step in replaced:
                remove_checkpoint(self.run.path, step)
        self.ranks.wait()

    def _is_kept(self, step: int, progress: Progress) -> bool:
        is_regular = self.save_every > 0 and step % self.save_every == 0
        return is_regular or step in (progress.step, progress.best_step)

    def newest(self) -> int | None:
        """The newest step from which the run can be resumed; None when there is none yet."""
        complete = set(steps(self.run.path))
        resumable = [step for path in self._state_paths() if (step := int(path.stem.split("_")[1])) in complete]
        return max(resumable, default=None)

    def restore(self, step: int, model: GPT, optimizers: list[torch.optim.Optimizer]) -> Progress:
        """Bring a `model` that was loaded from the checkpoint of `step`, and its optimizers, to exactly that point."""
        verify_checksum(weights_path(self.run.path, step))
        state: dict[str, Any] = torch.load(self._state_path(step), map_location="cpu", weights_only=True, mmap=True)
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, tensor in state["exact"].items():
                parameters[name].copy_(tensor)
        load_state(model, optimizers, state["optimizers"])
        progress = Progress(**state["progress"])
        if self.ranks.is_first:
            self._clean_up(progress)
        return progress

    def _clean_up(self, progress: Progress) -> None:
        """Remove what a killed process left half written, and checkpoints that it saved but had not yet noted."""
        for folder in (self.run.path, self.run.resume_dir):
            for path in folder.glob(".*.tmp"):
                path.unlink()
        for step in steps(self.run.path):
            if step not in progress.saved_steps:
                remove_checkpoint(self.run.path, step)

    def _state_path(self, step: int) -> Path:
        return self.run.resume_dir / f"state_{step:06d}.pt"

    def _state_paths(self) -> list[Path]:
        return sorted(self.run.resume_dir.glob("state_*.pt"))


def _exact_tables(model: GPT) -> dict[str, torch.Tensor]:
    """The tables that a checkpoint stores rounded to bf16, as they are."""
    return {name: parameter.detach().cpu() for name, parameter in model.named_parameters() if is_table(name)}
