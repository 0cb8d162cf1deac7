"""One door in and out for all commands, and so a module of its own: what options they take, and how they print.

A line of ours may quote a model, a dataset or the hub, and none of them steers the terminal; a command that prints in
another way is found by a test.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from nanochat_core.system.words import for_terminal

PROGRAM = "python -m nanochat_core"

Options = TypeVar("Options")


def parse(target: Callable[..., Options], arguments: list[str], command: str) -> Options:
    """The options of `command`, a dataclass whose fields and their docstrings say what there is.

    Ends the program with status 2 on a misspelt option, and with 0 after --help.
    """
    return tyro.cli(target, args=arguments, prog=f"{PROGRAM} {command}")


def say(text: object = "", *, end: str = "\n", flush: bool = False) -> None:
    """Print to standard output, without control characters."""
    print(for_terminal(str(text)), end=end, flush=flush)


def tell(text: object) -> None:
    """Print to standard error at once, without control characters: what is no part of the result."""
    print(for_terminal(str(text)), file=sys.stderr, flush=True)


def show(text: object = "") -> None:
    """Write over the last such line on standard error, where a person looks on; without a text it is gone."""
    if sys.stderr.isatty():
        print(f"\r{for_terminal(str(text))}\x1b[K", end="", file=sys.stderr, flush=True)
