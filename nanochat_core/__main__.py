"""`python -m nanochat_core`: the command line, whose commands lie in cli/."""

import os
import sys

from nanochat_core.cli.main import main

if __name__ == "__main__":
    status = main()
    if status and os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stderr.flush()
        os._exit(status)  # leaving in the usual way would wait for the other ranks, who wait for this one
    sys.exit(status)
