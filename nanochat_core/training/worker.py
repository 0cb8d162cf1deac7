"""One rank of a launched run: `python -m nanochat_core.training.worker TAG`, started by torchrun in the supervisor."""

import os
import sys
import traceback

from torch.distributed.elastic.multiprocessing.errors import record

from nanochat_core.runs.run import Run
from nanochat_core.training.finetune import train_run


@record  # hands an exception to torchrun, whose error file tells the supervisor the cause
def main() -> None:
    """Train the run named on the command line."""
    train_run(Run.open(sys.argv[1]))


if __name__ == "__main__":
    try:
        main()
    except Exception:  # noqa: BLE001 - nothing is swallowed: the process ends
        traceback.print_exc()
        # Leaving in the usual way would wait for the other ranks, who wait for this one.
        sys.stdout.flush()
        os._exit(1)
