"""What can go wrong with a job on the hub: every refusal, and every ending, in a sentence with a remedy."""

import contextlib
import re
from collections.abc import Iterator

from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

_BILLING = "add a way to pay or credit in the hub's billing settings"
_RESUME = "Go on from the last checkpoint that was pushed: `python -m nanochat_core runs resume {tag}`"


@contextlib.contextmanager
def job_told_plainly(what: str) -> Iterator[None]:
    """Turn the errors of requests to the hub into ValueErrors for people. what: such as "start a job"."""
    try:
        yield
    except HfHubHTTPError as error:
        raise ValueError(_refusal(error, what)) from error
    except OfflineModeIsEnabled as error:
        raise ValueError(f"The hub client is offline and cannot {what}. Unset HF_HUB_OFFLINE, then repeat.") from error
    except (HTTPError, ConnectionError, TimeoutError, RuntimeError) as error:  # RuntimeError: Xet's transfers
        raise ValueError(
            f"The hub cannot be reached to {what} ({_first_line(error)}). "
            "Check the network (and HTTPS_PROXY behind a proxy), then repeat."
        ) from error


def _refusal(error: HfHubHTTPError, what: str) -> str:
    status = error.response.status_code
    said = f" It says: {error.server_message}." if error.server_message else ""
    if status == 401:
        return f"The hub does not know your token and did not {what} (401). Log in with `hf auth login`, then repeat."
    if status == 402:
        return f"The hub wants to be paid before it will {what} (402).{said} There, {_BILLING}, then repeat."
    if status == 403:
        return (
            f"The hub forbids you to {what} (403).{said} Use a token that may write repositories and run jobs in this "
            "namespace; jobs may also need a paid plan."
        )
    if status == 404:
        return (
            f"The hub found nothing to {what} (404): the namespace, job or repository does not exist, or your token "
            "may not see it. Check the spelling of the namespace, or log in with `hf auth login` as its owner."
        )
    if status == 429:
        return f"The hub asks for patience: too many requests to {what} (429).{said} Repeat in some minutes."
    if status >= 500:
        return f"The hub has trouble of its own and could not {what} ({status}). Repeat later."
    return f"The hub refused to {what} ({status}).{said or ' ' + _first_line(error)} Correct this, then repeat."


def why_over(stage: str, message: str | None, tag: str, has_begun: bool, limit: str) -> tuple[str, str, str]:
    """(state, what happened, what to do) for the run `tag` whose job is over without the run's own last word.

    stage, message: as the hub states them. has_begun: steps of the training have arrived. limit: the job's time
    limit, such as "2 h". What was pushed before is kept in every case.
    """
    text = (message or "").strip()
    said = f" The hub says: {text}." if text else ""
    go_on = _RESUME.format(tag=tag)
    if re.search(r"time[d -]*out|deadline", text, re.IGNORECASE):
        return "interrupted", f"The job reached its time limit of {limit}.", f"{go_on}, with a larger timeout."
    if re.search(r"credit|billing|payment|quota|402", text, re.IGNORECASE):
        return "interrupted", f"The job was ended for lack of credit.{said}", f"On the hub, {_BILLING}. {go_on}."
    if stage == "CANCELED":
        return "interrupted", f"The job was cancelled on the hub.{said}", f"{go_on}."
    if stage == "DELETED":
        return "interrupted", "The job was deleted on the hub.", f"{go_on}."
    if not has_begun and re.search(r"image|manifest|pull", text, re.IGNORECASE):
        return (
            "failed",
            f"The job's image could not be fetched.{said}",
            f"Try again, with another image if it repeats: `python -m nanochat_core remote resume {tag} --image NAME`.",
        )
    if has_begun:
        return (
            "interrupted",
            f"The job ended without saying why: its machine was lost, or memory ran out.{said}",
            (f"{go_on}."),
        )
    return (
        "failed",
        f"The job ended before the training began.{said}",
        f"The end of log.txt has the job's own messages. Then: `python -m nanochat_core runs resume {tag}`.",
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
