"""The real worker of a run, of which machine 1's first life ends at the step in DIES_AT, without a word."""

import os
import signal

from nanochat_core.training import worker
from nanochat_core.training.trainer import Trainer

step = Trainer.step


def dying_step(self, examples):
    step(self, examples)
    is_first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if os.environ["NANOCHAT_STUDIO_NODE"] == "1" and is_first_life and self.progress.step == int(os.environ["DIES_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)


Trainer.step = dying_step

if __name__ == "__main__":
    worker.main()
