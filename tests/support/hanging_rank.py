"""A worker of a real training whose last rank hangs in its fifth step, as in a driver or a deadlock."""

import os
import sys
import time

from nanochat_core.runs.run import Run
from nanochat_core.training.finetune import train_run
from nanochat_core.training.step import TrainingStep

_accumulate = TrainingStep.accumulate
_steps = []


def _accumulate_or_hang(step: TrainingStep, examples):
    _steps.append(None)
    if len(_steps) == 5 and int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
        time.sleep(600)
    return _accumulate(step, examples)


if __name__ == "__main__":
    TrainingStep.accumulate = _accumulate_or_hang
    train_run(Run.open(sys.argv[1]))
