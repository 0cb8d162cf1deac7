"""What can go wrong with the hub, each told apart in one sentence with its remedy."""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

_LOG_IN = "log in with `hf auth login`"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Transfer:
    """What is being done with the hub, in the words of its sentences."""

    name: str = "download"
    """The remedy is to repeat it."""
    kind: str = "repository"
    """What the hub is asked for: repository or dataset."""
    writes: bool = False
    """Whether something is sent to the hub."""
    other_disk: str = "set NANOCHAT_STUDIO_HOME to a folder on another disk"
    """What helps when the disk is full."""


DOWNLOAD = Transfer()
IMPORT = Transfer("import", "dataset", other_disk="choose a place on another disk")
PUBLICATION = Transfer("publication", writes=True)


@contextlib.contextmanager
def told_plainly(repo: str, folder: Path, transfer: Transfer = DOWNLOAD) -> Iterator[None]:
    """Turn the errors of a transfer between `repo` and `folder` into ValueErrors for people."""
    try:
        yield
    except LocalEntryNotFoundError as error:  # the client's wrapping of whatever kept it from asking the hub
        raise ValueError(sentence(error.__cause__ or error, repo, folder, transfer)) from error
    except (HTTPError, OSError, RuntimeError) as error:  # RuntimeError: the client's second way of transfer, Xet
        wrapped = error.__cause__ if type(error) is RuntimeError else None  # the client's wrapping of an upload's fault
        cause = wrapped if isinstance(wrapped, HTTPError | OSError) else error
        raise ValueError(sentence(cause, repo, folder, transfer)) from error


def sentence(error: BaseException, repo: str, folder: Path, transfer: Transfer = DOWNLOAD) -> str:
    """One or two sentences: what, where, remedy."""
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, repo, transfer)
    if isinstance(error, OfflineModeIsEnabled):
        missing = f"{repo} is not complete on this machine and the" if transfer is DOWNLOAD else "The"
        return f"{missing} hub client is offline. Unset HF_HUB_OFFLINE, then repeat."
    if isinstance(error, HTTPError):
        return _unreachable(error, repo, transfer)
    if isinstance(error, OSError) and error.errno in _FULL:
        return (
            f"The disk with {folder} is full, or takes no file of this size ({error.strerror}). "
            f"Free some space, or {transfer.other_disk}; then repeat."
        )
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        return f"{error.filename or folder} cannot be written. Give yourself the right to, or {transfer.other_disk}."
    if isinstance(error, LocalEntryNotFoundError | ConnectionError):
        return _unreachable(error, repo, transfer)
    return f"The {transfer.name} of {repo} broke off ({_first_line(error)}). Repeat it."


def _refusal(error: HfHubHTTPError, repo: str, transfer: Transfer) -> str:
    """By the hub's answer. It answers 401 for what does not exist too, when nobody is logged in."""
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"Access to {repo} must be asked for first. Do so on its page on the hub, then {_LOG_IN}, and repeat."
    if status == 401 and transfer.writes:
        return (
            f"The hub does not let you write to {repo} (401): you are not logged in, or your login is not valid. "
            f"First {_LOG_IN}, with a token that may write."
        )
    if status == 401:
        return (
            f"The hub does not let you see {repo} (401): it is private or does not exist, or your login is not valid. "
            f"Check the spelling, or {_LOG_IN}."
        )
    if status == 403:
        action = "write to" if transfer.writes else "read"
        own = " Write under your own name, with a token that may write;" if transfer.writes else ""
        ask = " ask its owner for access" if transfer.writes else " Ask its owner for access"
        return f"The hub forbids you to {action} {repo} (403).{own}{ask}, or {_LOG_IN} as somebody who has it."
    if isinstance(error, RepositoryNotFoundError):
        return f"There is no {transfer.kind} {repo} on the hub (404). Check the spelling; for a private one, {_LOG_IN}."
    if status == 404:
        return f"A file of {repo} is not on the hub any more (404). Repeat the {transfer.name} to look again."
    if status == 429:
        return f"The hub asks for patience: too many requests (429) from here. Repeat in some minutes, or {_LOG_IN}."
    if status >= 500:
        return f"The hub has trouble of its own ({status}). Repeat the {transfer.name} later."
    return f"The hub refused {repo} ({status}: {_first_line(error)}). Repeat the {transfer.name} later."


def _unreachable(error: BaseException, repo: str, transfer: Transfer) -> str:
    doing = "sending" if transfer.writes else "fetching"
    return (
        f"The hub cannot be reached, or the connection broke off, while {doing} {repo} ({_first_line(error)}). "
        "Check the network (and HTTPS_PROXY behind a proxy), then repeat."
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
