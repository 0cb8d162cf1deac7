"""Who may do what: off a Space everybody everything; on a Space the owner everything, and a visitor only chat.

A refusal is the rule and permission the exception: a visitor may call only what carries `for_visitors`.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

FURTHER_OWNERS = "NANOCHAT_STUDIO_OWNERS"
"""Names on the hub, with commas between them, of who may do what the owner may."""
_LOGIN_VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
_MARK = "_is_for_visitors"

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Space:
    """The Hugging Face Space that this app runs in."""

    id: str
    """user/name."""
    hosts: frozenset[str]
    """Names that browsers know it by."""
    owners: frozenset[str]
    """Lower-case names on the hub. Not SPACE_CREATOR_USER_ID: a Space that is given away keeps its creator."""
    has_login: bool
    """Without hf_oauth in the README nobody can sign in, so everybody is a visitor."""


@dataclass(frozen=True)
class Person:
    """Who makes a request."""

    name: str = ""
    """On the hub; "" for who has not signed in."""
    is_owner: bool = False


NOBODY = Person()

_present: ContextVar[Person] = ContextVar("person", default=NOBODY)


def current_space() -> Space | None:
    """The Space of this process, from its environment, read when called; None off a Space."""
    space = os.environ.get("SPACE_ID")
    if not space:
        return None
    owners = [os.environ.get("SPACE_AUTHOR_NAME", ""), *os.environ.get(FURTHER_OWNERS, "").split(",")]
    hosts = os.environ.get("SPACE_HOST", "").split(",")
    # gradio signs its sessions with the client's secret, and with a known text where there is none.
    has_login = os.environ.get("SYSTEM") == "spaces" and all(os.environ.get(name) for name in _LOGIN_VARIABLES)
    return Space(space, _names(hosts), _names(owners), has_login)


def _names(values: list[str]) -> frozenset[str]:
    return frozenset(value.strip().lower() for value in values if value.strip())


def person_of(session: Mapping[str, Any] | None, space: Space) -> Person:
    """Who a browser's session belongs to, as gradio keeps it after a sign-in; NOBODY when it says nothing valid."""
    signed_in = (session or {}).get("oauth_info")
    if not space.has_login or not isinstance(signed_in, Mapping):
        return NOBODY
    expires = signed_in.get("expires_at")
    userinfo = signed_in.get("userinfo")
    if not isinstance(userinfo, Mapping) or not isinstance(expires, int | float) or expires < time.time():
        return NOBODY
    name = userinfo.get("preferred_username")
    if not isinstance(name, str) or not name:
        return NOBODY
    return Person(name, name.lower() in space.owners)


@contextlib.contextmanager
def acting(person: Person) -> Iterator[None]:
    """Within the block, and in threads that copy its context, this person acts."""
    before = _present.set(person)
    try:
        yield
    finally:
        _present.reset(before)


def present() -> Person:
    """Who acts now. Nobody does while the page is built and in the app's own threads."""
    return _present.get()


def is_visitor() -> bool:
    """Whether who acts now may only chat."""
    return current_space() is not None and not _present.get().is_owner


def for_visitors(function: Function) -> Function:
    """Mark a handler that visitors may call, too. What they may ask it is in studio.space.visitor_limits."""
    setattr(function, _MARK, True)
    return function


def is_for_visitors(function: Callable[..., Any] | None) -> bool:
    """Whether a handler, or the function of a bound one, carries the mark."""
    return getattr(function, _MARK, False) is True
