"""What can go wrong with the hub, each told apart in one sentence with its remedy."""

import contextlib
import errno
from collections.abc import Iterator
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


@contextlib.contextmanager
def told_plainly(repo: str, folder: Path) -> Iterator[None]:
    """Turn the errors of a transfer between `repo` and `folder` into ValueErrors for people."""
    try:
        yield
    except LocalEntryNotFoundError as error:  # the client's wrapping of whatever kept it from asking the hub
        raise ValueError(sentence(error.__cause__ or error, repo, folder)) from error
    except (HTTPError, OSError, RuntimeError) as error:  # RuntimeError: the client's second way of transfer, Xet
        raise ValueError(sentence(error, repo, folder)) from error


def sentence(error: BaseException, repo: str, folder: Path) -> str:
    """One or two sentences: what, where, remedy."""
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, repo)
    if isinstance(error, OfflineModeIsEnabled):
        return (
            f"{repo} is not complete on this machine and the hub client is offline. Unset HF_HUB_OFFLINE, then repeat."
        )
    if isinstance(error, HTTPError):
        return _unreachable(error, repo)
    if isinstance(error, OSError) and error.errno in _FULL:
        return (
            f"The disk with {folder} is full, or takes no file of this size ({error.strerror}). "
            "Free some space, or set NANOCHAT_STUDIO_HOME to a folder on another disk; then repeat."
        )
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        return f"{error.filename or folder} cannot be written. Give yourself the right to, or set NANOCHAT_STUDIO_HOME."
    if isinstance(error, LocalEntryNotFoundError | ConnectionError):
        return _unreachable(error, repo)
    return f"The download of {repo} broke off ({_first_line(error)}). Repeat it."


def _refusal(error: HfHubHTTPError, repo: str) -> str:
    """By the hub's answer. It answers 401 for what does not exist too, when nobody is logged in."""
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"Access to {repo} must be asked for first. Do so on its page on the hub, then {_LOG_IN}, and repeat."
    if status == 401:
        return (
            f"The hub does not let you see {repo} (401): it is private or does not exist, or your login is not valid. "
            f"Check the spelling, or {_LOG_IN}."
        )
    if status == 403:
        return (
            f"The hub forbids you to read {repo} (403). Ask its owner for access, or {_LOG_IN} as somebody who has it."
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"There is no repository {repo} on the hub (404). Check the spelling; for a private one, {_LOG_IN}."
    if status == 404:
        return f"A file of {repo} is not on the hub any more (404). Repeat the download to look again."
    if status == 429:
        return f"The hub asks for patience: too many requests (429) from here. Repeat in some minutes, or {_LOG_IN}."
    if status >= 500:
        return f"The hub has trouble of its own ({status}). Repeat the download later."
    return f"The hub refused {repo} ({status}: {_first_line(error)}). Repeat the download later."


def _unreachable(error: BaseException, repo: str) -> str:
    return (
        f"The hub cannot be reached, or the connection broke off, while fetching {repo} ({_first_line(error)}). "
        "Check the network (and HTTPS_PROXY behind a proxy), then repeat."
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
