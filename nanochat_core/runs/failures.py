"""From the ways in which the processes of a run died to one plain sentence with its remedy."""

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

CLOSING_SECONDS = 4
"""How long the other ranks have, once one has died, until they are killed."""

_LOST_PEER = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|socket (timeout|closed)|peer|remote process exited"
    r"|DistNetworkError|ProcessGroup.*timeout",
    re.IGNORECASE,
)

_SMALLER = (
    "Close other programs that use memory and go on with `python -m nanochat_core runs resume {tag}`, or start again "
    "with a smaller device_batch_size (the result stays the same) or max_seq_len under a new output_tag."
)

_KNOWN = (
    (
        r"CUDA out of memory|OutOfMemoryError|MPS backend out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        "{who} ran out of memory on its device.",
        "Use a smaller device_batch_size (the result stays the same) or a smaller max_seq_len, under a new output_tag.",
    ),
    (
        r"MemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc",
        "{who} ran out of memory.",
        _SMALLER,
    ),
    (
        r"No space left on device|Errno 28|Disk quota exceeded|Errno 122|File too large",
        "{who} could not write: the disk is full.",
        "Free some space, then go on with `python -m nanochat_core runs resume {tag}`.",
    ),
    (
        r"invalid device ordinal|Duplicate GPU detected",
        "More processes were started than there are devices.",
        "Start the run with as many processes as there are GPUs (nproc).",
    ),
    (
        r"NCCL|DistBackendError",
        "The devices could not talk to each other ({last}).",
        "Try one process (nproc 1); with NCCL_DEBUG=INFO in the environment, log.txt says more.",
    ),
    (
        r"ModuleNotFoundError|ImportError",
        "The installation is incomplete ({last}).",
        "Run `make install`, then start again.",
    ),
)

_DIVERGED = (
    "Lower the learning rates (init_lr_frac) and start again under a new output_tag; checkpoints saved before are good."
)

_SIGNALS = {
    "SIGKILL": ("{who} was killed from outside (SIGKILL), most likely because memory ran out.", _SMALLER),
    "SIGTERM": (
        "{who} was ended from outside (SIGTERM).",
        "Go on from the last checkpoint with `python -m nanochat_core runs resume {tag}`.",
    ),
    "SIGBUS": (
        "{who} crashed (SIGBUS), most likely because shared memory or the disk is full.",
        "Free some space, then go on with `python -m nanochat_core runs resume {tag}`.",
    ),
}


@dataclass(frozen=True)
class Failure:
    """How one process ended."""

    rank: int
    exitcode: int
    """The exit status; negative: the number of the signal that ended it."""
    message: str = ""
    """The exception as it was reported, empty when there is none."""
    time: float = 0.0
    """When it was noticed, in seconds since 1970."""


def root_cause(failures: Iterable[Failure]) -> Failure:
    """The failure that brought the others about.

    A process that died without a word comes first, though the ranks that then lost their peer may have been noticed
    earlier; those that the launcher ended because of it (SIGTERM, then SIGKILL) come last.
    """
    failures = list(failures)
    first = min(failure.time for failure in failures)

    def order(failure: Failure) -> tuple[int, float, int]:
        ended_late = failure.exitcode == -signal.SIGKILL and failure.time - first >= CLOSING_SECONDS - 1
        if failure.message:  # it raised something, however it ended then
            likely = 2 if _LOST_PEER.search(failure.message) else 1
        elif failure.exitcode == -signal.SIGTERM or ended_late:
            likely = 3
        else:
            likely = 0 if failure.exitcode < 0 else 1
        return likely, failure.time, failure.rank

    return min(failures, key=order)


def is_lost_peer(message: str) -> bool:
    """Whether a process failed only because another one of the run was gone."""
    return _LOST_PEER.search(message) is not None


def explain(failure: Failure, tag: str) -> tuple[str, str]:
    """(what went wrong, what to do) for run `tag`, each one sentence or two for the person who started it."""
    who = f"Process {failure.rank} of the training (rank {failure.rank})"
    last = _last_line(failure.message)
    if failure.exitcode < 0 and not failure.message:
        name = _signal_name(-failure.exitcode)
        error, remedy = _SIGNALS.get(name, ("{who} crashed ({name}).", _generic_remedy()))
        return error.format(who=who, name=name), remedy.format(tag=tag)
    if failure.message.startswith("ValueError: "):  # written for people, with its own remedy
        return failure.message.removeprefix("ValueError: "), "Correct this, then start again."
    for pattern, error, remedy in _KNOWN:
        if re.search(pattern, failure.message):
            return error.format(who=who, last=last), remedy.format(tag=tag)
    if failure.message.startswith("Diverged: "):
        return failure.message.removeprefix("Diverged: "), _DIVERGED
    said = f": {last}" if last else f" with exit status {failure.exitcode} and no message"
    return f"{who} failed{said}", _generic_remedy()


def last_exception(log: str) -> str:
    """The last line of a log that looks like a Python exception's, empty when there is none."""
    found = re.findall(r"^(?:\[rank\d+\]: ?)?((?:\w+\.)*\w*(?:Error|Exception|Interrupt): .*)$", log, re.MULTILINE)
    return found[-1] if found else ""


def _generic_remedy() -> str:
    return "The whole message is in the run's log.txt."


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
