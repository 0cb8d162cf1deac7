"""app.py for tests: a rented machine is asked twice a second how it goes, not three times a minute."""

import sys
from functools import partial

from studio.__main__ import main
from studio.runs import rented

if __name__ == "__main__":
    rented.start_remote_run = partial(rented.start_remote_run, push_seconds=0.5, poll_seconds=0.5)
    sys.exit(main())
