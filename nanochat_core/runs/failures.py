"""From the ways in which the processes of a run died to one plain sentence with its remedy."""

import json
import re
import shlex
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.status import RunStatus
from nanochat_core.system.disk import free_bytes, is_full
from nanochat_core.system.words import size

_SHORTEST_TO_HALVE = 64  # tokens; with fewer than 32 a conversation says nothing

CLOSING_SECONDS = 4
"""How long the other ranks have, once one has died, until they are killed."""

_LOST_PEER = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|socket (timeout|closed)|peer|remote process exited"
    r"|DistNetworkError|ProcessGroup.*timeout",
    re.IGNORECASE,
)

Retry = Callable[[FinetuneConfig], dict[str, Any] | None]
"""From the settings of a failed run to those that would change in a new try; None when no setting would help."""


def _nothing(config: FinetuneConfig) -> None:
    return None


def _less_memory(config: FinetuneConfig) -> dict[str, Any] | None:
    if config.device_batch_size > 1:
        return {"device_batch_size": config.device_batch_size // 2}
    return {"max_seq_len": config.max_seq_len // 2} if config.max_seq_len >= _SHORTEST_TO_HALVE else None


def _lower_rates(config: FinetuneConfig) -> dict[str, Any]:
    if config.method == "lora":
        return {"lora_lr": config.lora_lr / 2}
    return {"init_lr_frac": config.init_lr_frac / 2}


def _one_process(config: FinetuneConfig) -> dict[str, Any]:
    return {"nproc": 1}


_SMALLER = (
    "Close other programs that use memory and resume with `python -m nanochat_core runs resume {tag}`, or start again "
    "with a smaller device_batch_size (the result stays the same) or max_seq_len under a new output_tag."
)

_DISK_FULL = "DiskFull: "
_FREE_SPACE = "Free some space, then resume with `python -m nanochat_core runs resume {tag}`."

_KNOWN = (
    (
        r"CUDA out of memory|OutOfMemoryError|MPS backend out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        "{who} ran out of memory on its device.",
        "Resume with `python -m nanochat_core runs resume {tag} --memory layerwise` (or offloaded, offloaded_all: each "
        "takes less; the result stays the same), or use a smaller device_batch_size or max_seq_len under a new "
        "output_tag.",
        _less_memory,
    ),
    (
        # cudaHostAlloc says it, too: then the machine's memory that is pinned for the copies is short.
        r"CUDA error: out of memory",
        "{who} ran out of memory on its device, or of the machine's memory that it copies from.",
        _SMALLER,
        _less_memory,
    ),
    (
        # oneDNN says no more than the last where a limit on memory (ulimit -v, as schedulers set it) is reached.
        r"MemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc"
        r"|could not create a (primitive|memory)",
        "{who} ran out of memory.",
        _SMALLER,
        _less_memory,
    ),
    (
        r"No space left on device|Errno 28|Disk quota exceeded|Errno 122|File too large",
        "{who} could not write: the disk is full.",
        _FREE_SPACE,
        _nothing,
    ),
    (
        r"invalid device ordinal|Duplicate GPU detected",
        "More processes were started than there are devices.",
        "Start the run with as many processes as there are GPUs (nproc).",
        _one_process,
    ),
    (
        r"NCCL|DistBackendError",
        "The devices could not talk to each other ({last}).",
        "Try one process (nproc 1); with NCCL_DEBUG=INFO in the environment, log.txt says more.",
        _one_process,
    ),
    (
        r"CUDA error: |cuDNN error|CUDNN_STATUS|CUBLAS_STATUS",
        "{who} failed on its device ({last}).",
        "Resume with `python -m nanochat_core runs resume {tag}`. If it fails again, see what `nvidia-smi` says of the "
        "card, and `python -m nanochat_core doctor` of torch; the whole message is in the run's log.txt.",
        _nothing,
    ),
    (
        r"Error: \[Errno \d+\] [^:\n]+: ['\"]",
        "{who} could not read or write a file ({last}).",
        "Check the path and its permissions, then resume with `python -m nanochat_core runs resume {tag}`.",
        _nothing,
    ),
    (
        r"ModuleNotFoundError|ImportError",
        "The installation is incomplete ({last}).",
        "Install it again (`make install`, or `pip install` where it is no checkout), then start again.",
        _nothing,
    ),
)

_MISTAKE, _NO_NUMBER = "ValueError: ", "Diverged: "  # the names of exceptions; what follows is written for people
_SEE_LOG = "The whole message is in the run's log.txt."
_DIVERGED = (
    "Lower the learning rates ({rate}) and start again under a new output_tag; checkpoints saved before are good."
)

_SIGNALS = {
    "SIGKILL": (
        "{who} was killed from outside (SIGKILL), most likely because memory ran out.",
        _SMALLER,
        _less_memory,
    ),
    "SIGTERM": (
        "{who} was ended from outside (SIGTERM).",
        "Resume from the last checkpoint with `python -m nanochat_core runs resume {tag}`.",
        _nothing,
    ),
    "SIGBUS": (
        "{who} crashed (SIGBUS), most likely because shared memory or the disk is full.",
        _FREE_SPACE,
        _nothing,
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


class FailedElsewhere(RuntimeError):
    """This process ends because one on another machine has failed."""

    def __init__(self, cause: Failure):
        super().__init__(json.dumps({"rank": cause.rank, "exitcode": cause.exitcode, "message": cause.message}))


def told_cause(failure: Failure) -> Failure:
    """What failed: another process, where this one has ended by FailedElsewhere."""
    kind, _, word = failure.message.partition(": ")
    # Before everything that it brought about, whenever it was noticed here.
    return Failure(**json.loads(word), time=0.0) if kind == FailedElsewhere.__name__ else failure


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


@dataclass(frozen=True)
class Explanation:
    """Why a run failed, for the person who started it and for the programs that offer a remedy."""

    error: str
    """What went wrong, one sentence or two."""
    remedy: str
    """What to do about it."""
    retry: dict[str, Any] | None = None
    """The settings to change for a new try, by name; None when none would help."""
    is_mistake: bool = False
    """A person's mistake: the error has its own remedy."""

    def to_status(self, rank: int) -> dict[str, Any]:
        """What status.json says of a run that failed so, first in process `rank`."""
        return {"state": "failed", "eta_seconds": None, "rank": rank, **vars(self)}


def explain(failure: Failure, tag: str, config: FinetuneConfig) -> Explanation:
    """Why run `tag`, which has the settings `config`, failed."""
    who = f"Process {failure.rank} of the training (rank {failure.rank})"
    last = _last_line(failure.message)
    if failure.exitcode < 0 and not failure.message:
        name = _signal_name(-failure.exitcode)
        error, remedy, retry = _SIGNALS.get(name, ("{who} crashed ({name}).", _SEE_LOG, _nothing))
        return Explanation(error.format(who=who, name=name), remedy.format(tag=shlex.quote(tag)), retry(config))
    if failure.message.startswith(_MISTAKE):
        return Explanation(failure.message.removeprefix(_MISTAKE), "Correct this, then start again.", is_mistake=True)
    if failure.message.startswith(_DISK_FULL):
        return Explanation(failure.message.removeprefix(_DISK_FULL), _FREE_SPACE.format(tag=shlex.quote(tag)))
    for pattern, error, remedy, retry in _KNOWN:
        if re.search(pattern, failure.message):
            return Explanation(error.format(who=who, last=last), remedy.format(tag=shlex.quote(tag)), retry(config))
    if failure.message.startswith(_NO_NUMBER):
        lower = _lower_rates(config)
        remedy = _DIVERGED.format(rate=", ".join(lower))
        return Explanation(failure.message.removeprefix(_NO_NUMBER), remedy, lower)
    ending = f": {last}" if last else f" with exit status {failure.exitcode} and no message"
    stop = "" if ending.endswith((".", "!", "?")) else "."
    return Explanation(f"{who} failed{ending}{stop}", _SEE_LOG)


def without_last_word(status: RunStatus, folder: Path) -> RunStatus:
    """The status of a run in `folder` that ended without a word: failed, where the full disk says why."""
    if not is_full(folder):
        return status
    error = f"The run ended, and could not say so: the disk is full ({size(free_bytes(folder))} free in {folder})."
    return replace(status, state="failed", error=error, remedy=_FREE_SPACE.format(tag=shlex.quote(folder.name)))


def last_exception(log: str) -> str:
    """The last line of a log that looks like a Python exception's, empty when there is none."""
    found = re.findall(r"^(?:\[rank\d+\]: ?)?((?:\w+\.)*\w*(?:Error|Exception|Interrupt): .*)$", log, re.MULTILINE)
    return found[-1] if found else ""


_ADVICE = (
    "Search for `cuda",
    "CUDA kernel errors might",
    "For debugging consider passing",
    "Compile with `TORCH_USE_CUDA_DSA`",
    "Device-side assertion tracking",
)
"""How the lines begin that torch writes below every error of CUDA: they say nothing of this one."""


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(_ADVICE)]
    return lines[-1][:300] if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
