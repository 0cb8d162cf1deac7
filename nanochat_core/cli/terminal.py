"""What a command prints: a line of ours may quote a model, a dataset or the hub, and none of them steers the terminal.

A module of its own, small as it is: a command that prints in another way is found by a test.
"""

import sys

from nanochat_core.system.words import for_terminal


def say(text: object = "", *, end: str = "\n", flush: bool = False) -> None:
    """Print to standard output, without control characters."""
    print(for_terminal(str(text)), end=end, flush=flush)


def tell(text: object) -> None:
    """Print to standard error at once, without control characters: what is no part of the result."""
    print(for_terminal(str(text)), file=sys.stderr, flush=True)
