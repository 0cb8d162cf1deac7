"""What can go wrong with the hub, each told apart in one or two sentences with the remedy."""

import contextlib
import errno
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from nanochat_core.system.words import printable

_LOG_IN = "log in with `hf auth login`"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_OTHER_DISK = "set NANOCHAT_STUDIO_HOME to a folder on another disk"


@dataclass(frozen=True)
class Action:
    """What is being done with the hub, in the words of its sentences."""

    do: str
    """What the hub is asked to allow: "read me/x", "start a job for me"."""
    unknown: str
    """Why it may not know who asks (401), and the remedy."""
    forbidden: str
    """What helps when it forbids that (403)."""
    missing: str
    """What is not there (404), and the remedy."""
    gone: str
    """The same when the repository is there, and something in it is not."""
    folder: Path | None = None
    """Where it reads or writes on this machine."""
    other_disk: str = _OTHER_DISK
    """What helps when the disk is full."""


def downloading(repo: str, folder: Path, kind: str = "repository", other_disk: str = _OTHER_DISK) -> Action:
    """Reading `repo` into `folder`. kind: repository or dataset."""
    return Action(
        do=f"read {repo}",
        unknown=f"It is private or does not exist, or your login is not valid. Check the spelling, or {_LOG_IN}.",
        forbidden=f"Ask its owner for access, or {_LOG_IN} as somebody who has it.",
        missing=f"There is no {kind} {repo} on the hub (404). Check the spelling; for a private one, {_LOG_IN}.",
        gone=f"A file of {repo} is no longer on the hub (404). Repeat to look again.",
        folder=folder,
        other_disk=other_disk,
    )


def importing(repo: str, out: Path) -> Action:
    """Reading the dataset `repo` into the file `out`."""
    return downloading(repo, out, "dataset", "choose a place on another disk")


def publishing(repo: str, folder: Path) -> Action:
    """Writing what lies in `folder` to `repo`."""
    return Action(
        do=f"write to {repo}",
        unknown=f"You are not logged in, or your login is not valid. First {_LOG_IN}, with a token that may write.",
        forbidden=f"Write under your own name, with a token that may write; or ask its owner, or {_LOG_IN} as one.",
        missing=f"There is no repository {repo} on the hub (404). Check the spelling; for a private one, {_LOG_IN}.",
        gone=f"A file of {repo} is no longer on the hub (404). Repeat to look again.",
        folder=folder,
    )


def requesting(do: str) -> Action:
    """A request about a rented machine or its repository. do: such as "start a job for me"."""
    missing = (
        f"The hub found nothing to {do} (404): the namespace, job or repository does not exist, or your token may not "
        f"see it. Check the spelling of the namespace, or {_LOG_IN} as its owner."
    )
    return Action(
        do=do,
        unknown=f"It does not know your token. First {_LOG_IN}, with a token that may write and run jobs.",
        forbidden="Use a token that may write repositories and run jobs in this namespace; jobs may also need a paid "
        "plan.",
        missing=missing,
        gone=missing,
    )


@contextlib.contextmanager
def told_plainly(action: Action) -> Iterator[None]:
    """Turn the errors of an action into ValueErrors for people."""
    try:
        yield
    except LocalEntryNotFoundError as error:  # the client's wrapping of whatever kept it from asking the hub
        raise ValueError(sentence(error.__cause__ or error, action)) from error
    except (HTTPError, OSError, RuntimeError) as error:  # RuntimeError: the client's second way of transfer, Xet
        wrapped = error.__cause__ if type(error) is RuntimeError else None  # the client's wrapping of an upload's fault
        cause = wrapped if isinstance(wrapped, HTTPError | OSError) else error
        raise ValueError(sentence(cause, action)) from error
    except json.JSONDecodeError as error:
        if not error.doc.lstrip().startswith("<"):
            raise
        raise ValueError(_captive(action)) from error  # a page where the hub's answer should be


def sentence(error: BaseException, action: Action) -> str:
    """One or two sentences: what, where, remedy."""
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, action)
    if isinstance(error, OfflineModeIsEnabled):
        return f"The hub client is offline and cannot {action.do}. Unset HF_HUB_OFFLINE, then repeat."
    if isinstance(error, FileMetadataError) or any(
        isinstance(it, ssl.SSLCertVerificationError) for it in _chain(error)
    ):
        return _captive(action)
    if isinstance(error, HTTPError) and str(error).startswith("407"):  # a proxy that refuses the tunnel to the hub
        return _proxy(action)
    if isinstance(error, HTTPError | TimeoutError | ConnectionError | LocalEntryNotFoundError):
        return (
            f"The hub cannot be reached, or the connection broke off, so this machine did not {action.do} "
            f"({_first_line(error)}). Check the network (and HTTPS_PROXY behind a proxy), then repeat."
        )
    if isinstance(error, OSError) and error.errno in _FULL:
        return (
            f"The disk with {action.folder} is full, or takes no file of this size ({error.strerror}). "
            f"Free some space, or {action.other_disk}; then repeat."
        )
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        place = error.filename or action.folder
        return f"{place} cannot be written. Give yourself the right to, or {action.other_disk}."
    if isinstance(error, OSError) and error.filename:
        what = error.strerror or "it is not what is expected there"
        return f"{error.filename} cannot be used: {what}. Check the path, or {action.other_disk}."
    return f"What was to {action.do} broke off ({_first_line(error)}). Repeat it."


def _refusal(error: HfHubHTTPError, action: Action) -> str:
    """The sentence for the hub's status. It answers 401 for what does not exist too, when nobody is logged in."""
    status = error.response.status_code
    said = f" It says: {printable(error.server_message)}." if error.server_message else ""
    if isinstance(error, GatedRepoError):
        return f"To {action.do}, access must be asked for first: on its page on the hub. Then {_LOG_IN}, and repeat."
    if status == 401:
        return f"The hub does not let you {action.do} (401). {action.unknown}"
    if status == 402:
        return (
            f"The hub wants to be paid before it will {action.do} (402).{said} Add a way to pay or credit in the hub's "
            "billing settings, then repeat."
        )
    if status == 403:
        return f"The hub forbids you to {action.do} (403).{said} {action.forbidden}"
    if status == 404:
        return action.missing if isinstance(error, RepositoryNotFoundError) else action.gone
    if status == 407:
        return _proxy(action)
    if status == 429:
        return (
            f"The hub asks for patience: too many requests (429) to {action.do}. Repeat in some minutes, or {_LOG_IN}."
        )
    if status == 511:
        return _captive(action)
    if status >= 500:
        return f"The hub has trouble of its own and could not {action.do} ({status}). Repeat later."
    return f"The hub refused to {action.do} ({status}).{said or f' {_first_line(error)}.'} Correct this, then repeat."


def _captive(action: Action) -> str:
    return (
        f"Something on the way answers in place of the hub, so this machine cannot {action.do}: the sign-in page of a "
        "network, or a proxy that looks into every connection. Sign in to the network in a browser; behind such a "
        "proxy, name its certificate in SSL_CERT_FILE. Then repeat."
    )


def _proxy(action: Action) -> str:
    return (
        f"The proxy on the way to the hub wants a name and a password (407) before this machine can {action.do}. Write "
        "them into HTTPS_PROXY as http://NAME:PASSWORD@HOST:PORT, then repeat."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return printable(text.splitlines()[0][:200]) if text else type(error).__name__
