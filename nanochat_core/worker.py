"""One rank of a launched run: `python -m nanochat_core.worker TAG`, started by torchrun in the run's supervisor."""

import sys

from torch.distributed.elastic.multiprocessing.errors import record

from nanochat_core.runs import Run
from nanochat_core.training import train_run


@record  # hands an exception to torchrun, whose error file tells the supervisor the cause
def main() -> None:
    """Train the run named on the command line."""
    train_run(Run.open(sys.argv[1]))


if __name__ == "__main__":
    main()
