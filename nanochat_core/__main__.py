"""`python -m nanochat_core`: the command line, whose commands lie in cli/."""

import os
import sys


def main(arguments: list[str] | None = None) -> int:
    """The command line: `cli.main`, from its loading on. Returns the exit status."""
    try:
        from nanochat_core.cli.main import main as run  # half a second, in which Ctrl-C may come

        return run(arguments)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    status = main()
    if status and os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stderr.flush()
        os._exit(status)  # leaving in the usual way would wait for the other ranks, who wait for this one
    sys.exit(status)
