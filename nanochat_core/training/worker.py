"""One rank of a launched run: `python -m nanochat_core.training.worker TAG`, started by torchrun in the supervisor."""

import os
import sys
import time
import traceback

from torch.distributed.elastic.multiprocessing.errors import get_error_handler, record

from nanochat_core.runs.cause import cause_shared
from nanochat_core.runs.failures import Failure, explain
from nanochat_core.runs.nodes import node_of, rank_of, restarts_left
from nanochat_core.runs.run import Run
from nanochat_core.training.finetune import train_run
from nanochat_core.training.step import Diverged

SEEN_SECONDS = 60
"""How late a shared folder may show a file to another machine."""


@record  # hands an exception to torchrun, whose error file tells the supervisor the cause
def main() -> None:
    """Train the run named on the command line."""
    with cause_shared(get_error_handler().record_exception):
        _train(_opened(sys.argv[1]))


def _train(run: Run) -> None:
    try:
        train_run(run)
    except (ValueError, Diverged) as error:
        if restarts_left() > 0 and not run.has_ended():
            # Torchrun would start all ranks again, for the same to happen; of an ended run it starts none.
            failure = Failure(rank_of(os.environ), 1, f"{type(error).__name__}: {error}")
            run.write_status(**explain(failure, run.tag, run.settings()).to_status(failure.rank))
        raise


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


if __name__ == "__main__":
    try:
        main()
    except Exception:  # noqa: BLE001 - nothing is swallowed: the process ends
        traceback.print_exc()
        # Leaving in the usual way would wait for the other ranks, who wait for this one.
        sys.stdout.flush()
        os._exit(1)
