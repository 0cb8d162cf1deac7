"""One door in and out for all commands, and so a module of its own: what options they take, and how they print.

A line of ours may quote a model, a dataset or the hub, and none of them steers the terminal; a command that prints in
another way is found by a test.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import tyro

from nanochat_core.system.words import for_terminal

PROGRAM = "python -m nanochat_core"

Options = TypeVar("Options")


def parse(target: Callable[..., Options], arguments: list[str], command: str) -> Options:
    """The options of `command`, a dataclass whose fields and their docstrings say what there is.

    Ends the program with status 2 on a misspelt option, and with 0 after --help. ValueError for an option with an
    empty value where nothing is not the default: it would be passed over (an unset variable of a script, say).
    """
    with _said_of_dashes(arguments):
        options = tyro.cli(target, args=arguments, prog=f"{PROGRAM} {command}")
    for one in fields(options) if is_dataclass(options) else ():
        if one.default is None and getattr(options, one.name) == "":
            raise ValueError(f"--{one.name} is empty: give it a value, or leave it out.")
    return options


@contextlib.contextmanager
def _said_of_dashes(arguments: list[str]) -> Iterator[None]:
    """Within it, a file whose name begins with '-', and is taken for an option, is named with the remedy."""
    try:
        yield
    except SystemExit as ended:
        name = next((one for one in arguments if one.startswith("-") and os.path.lexists(one)), None)
        if ended.code and name:
            tell(f"'{name}' begins with '-', as options do. Write ./{name} for the file.")
        raise


def print_whatever_comes() -> None:
    """Let a terminal or file that cannot hold a letter get its number: no work ends in an error of printing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not what a notebook or a test puts in its place
            stream.reconfigure(errors="backslashreplace")


def say_json(value: Any, indent: int | None = None) -> None:
    """Print a value for other programs: one JSON text, with letters beyond ASCII where the output can hold them all."""
    holds_all = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=indent, ensure_ascii=not holds_all))


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
