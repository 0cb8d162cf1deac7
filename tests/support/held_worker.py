"""The real training, but that it waits after step HOLD_AT until it is asked to stop: so a test meets it half way."""

import os
import time

from nanochat_core.training import worker
from nanochat_core.training.trainer import Trainer

_step = Trainer.step


def _held_step(trainer, examples):
    _step(trainer, examples)
    if trainer.progress.step == int(os.environ.get("HOLD_AT", "-1")):
        while not trainer.recorder.must_stop():
            time.sleep(0.05)


if __name__ == "__main__":
    Trainer.step = _held_step
    worker.main()
