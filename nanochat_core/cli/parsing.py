"""From the words of a command line to the options of one command, in a single way for all commands."""

from collections.abc import Callable
from typing import TypeVar

import tyro

PROGRAM = "python -m nanochat_core"

Options = TypeVar("Options")


def parse(target: Callable[..., Options], arguments: list[str], command: str) -> Options:
    """The options of `command`, a dataclass whose fields and their docstrings say what there is.

    Ends the program with status 2 on a misspelt option, and with 0 after --help.
    """
    return tyro.cli(target, args=arguments, prog=f"{PROGRAM} {command}")
