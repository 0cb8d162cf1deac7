"""One rank of a launched run: `python -m nanochat_core.training.worker TAG`, started by torchrun in the supervisor."""

import os
import sys
import time
import traceback
from typing import NoReturn

from torch.distributed.elastic.multiprocessing.errors import record

from nanochat_core.runs.nodes import node_of, restarts_left
from nanochat_core.runs.run import Run
from nanochat_core.training.finetune import train_run
from nanochat_core.training.step import Diverged

SEEN_SECONDS = 60
"""How late a shared folder may show a file to another machine."""


@record  # hands an exception to torchrun, whose error file tells the supervisor the cause
def main() -> None:
    """Train the run named on the command line."""
    try:
        train_run(_opened(sys.argv[1]))
    except (ValueError, Diverged):
        if restarts_left() == 0:
            raise
        # All ranks have it, and the run's status says it. Torchrun would start them again, for the same to happen.
        traceback.print_exc()
        _leave(0)


def _opened(tag: str) -> Run:
    """The run; on a further machine its folder may be seen a moment after the first has made it."""
    limit = time.monotonic() + (SEEN_SECONDS if node_of(os.environ) else 0)
    while True:
        try:
            return Run.open(tag)
        except ValueError:
            if time.monotonic() > limit:
                raise
        time.sleep(1)


def _leave(status: int) -> NoReturn:
    """End this process. Leaving in the usual way would wait for the other ranks, who wait for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    try:
        main()
    except Exception:  # noqa: BLE001 - nothing is swallowed: the process ends
        traceback.print_exc()
        _leave(1)
