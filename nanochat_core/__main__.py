"""`python -m nanochat_core`: the command line, whose commands lie in cli/."""

import os
import sys

if __name__ == "__main__":
    try:
        from nanochat_core.cli.main import main  # half a second, within which somebody may press Ctrl-C

        status = main()
    except KeyboardInterrupt:
        status = 130
    if status and os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stderr.flush()
        os._exit(status)  # leaving in the usual way would wait for the other ranks, who wait for this one
    sys.exit(status)
