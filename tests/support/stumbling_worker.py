"""The real worker of a run, which on machine 1 fails after the run has ended."""

import os
import sys
import time

from nanochat_core.runs.run import Run
from nanochat_core.training import worker

if __name__ == "__main__":
    worker.main()
    if os.environ["NANOCHAT_STUDIO_NODE"] == "1":
        while not Run.open(sys.argv[1]).status().is_over:
            time.sleep(0.1)
        os._exit(3)
