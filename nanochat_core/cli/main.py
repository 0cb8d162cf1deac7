"""The command line: finds the command's module, calls it, and tells a person's mistake in one sentence with status 2.

Each command is a module of this package that is imported when it is called: `runs list` must not wait two seconds for
torch. tyro's SubcommandApp would need all options, and so all modules, at once.
"""

import importlib
import os
import sys
from collections.abc import Callable

from nanochat_core.cli.terminal import PROGRAM, print_whatever_comes, tell
from nanochat_core.system.disk import NO_ROOM, DiskFull
from nanochat_core.system.spawn import share_cores

Command = Callable[[list[str]], int]
"""From its arguments to the exit status."""

COMMANDS = {
    "finetune": "train a model on your own conversations (--nproc N: N processes, one a GPU; --plan: its memory)",
    "check": "look for faults in a file of conversations, and repair them",
    "chat": "talk to a model",
    "eval": "ask a model questions with known answers, and take its loss on conversations",
    "report": "write a run, or two, as a page of HTML or Markdown to attach to a decision",
    "models": "list the models there are",
    "review": "which rows of a data file contradict, repeat, leak or do not teach",
    "trace": "which rows taught a run its reply",
    "runs": "list, show, stop or resume training runs",
    "doctor": "what this machine can do: hardware, models and memory modes that fit, speed, what is missing",
    "download": "fetch a nanochat model from the Hugging Face Hub",
    "import-dataset": "conversations from a dataset on the Hugging Face Hub, checked",
    "export": "write a model as a folder for transformers and others, or for nanochat",
    "publish": "put a model on the Hugging Face Hub, private unless you say otherwise",
    "remote": "train on a rented machine of the Hugging Face Hub, and follow such a run",
    "serve": "answer other programs with a model, as OpenAI's API does",
}
"""What each does, by its name; the module has the same, with _ for -."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 for a rejected file or a failed run, 2 for a person's mistake."""
    share_cores(os.environ)
    print_whatever_comes()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in COMMANDS:
        wants_help = bool(arguments) and arguments[0] in ("-h", "--help", "help")
        print(_usage(), file=sys.stdout if wants_help else sys.stderr)
        if arguments and not wants_help:
            tell(f"There is no command '{arguments[0]}'. Choose one of the above.")
        return 0 if wants_help else 2
    try:
        return _command(arguments[0])(arguments[1:])
    except ValueError as error:
        if os.environ.get("RANK", "0") == "0":  # under torchrun every rank has the same to say
            tell(f"Error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    except DiskFull as error:
        tell(f"Error: {error} Free some space, then try again.")
        return 2
    except BrokenPipeError:  # `... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        tell(f"Error: {_what_failed(error)}")
        return 2


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = "".join(f"  {name:<{width}} {words}\n" for name, words in COMMANDS.items())
    return f"usage: {PROGRAM} COMMAND [--help]\n\n{lines}"


def _what_failed(error: OSError) -> str:
    """What the system refused, where, and what helps; an error of the network has no file."""
    if error.filename is None:
        return f"{error}. Check the disk and the network, then try again."
    if error.errno in NO_ROOM:
        return f"{error.filename}: {error.strerror}. Free some space, then try again."
    return f"{error.filename}: {error.strerror}. Check the path and its permissions."


def _command(name: str) -> Command:
    module = importlib.import_module(f"nanochat_core.cli.{name.replace('-', '_')}")
    command: Command = module.run
    return command
