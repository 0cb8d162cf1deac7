"""What a visitor of a Space may ask of the handlers that are open to them: the starter, and so much of everything."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from studio.models.processes import AUTOMATIC

MODEL = "starter"
MOST_CHARACTERS = 2000
MOST_TOKENS = 256
MOST_TURNS = 30
MOST_REPLIES = 4
"""Visitors' replies that are written or waited for at a time. The model writes one after the other."""

_places = threading.BoundedSemaphore(MOST_REPLIES)


def _model(value: Any) -> None:
    name, at, step = value.partition("@") if isinstance(value, str) else ("", "", "")
    if value is not None and (name != MODEL or (at and not step.isdecimal())):
        raise ValueError(
            f"Visitors talk to the model '{MODEL}' only. Choose it above; the owner of this Space can use the others."
        )


def _text(value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise ValueError("A message must be a text. Write one in the field.")
    if value and len(value) > MOST_CHARACTERS:
        raise ValueError(
            f"This text has {len(value):,} characters; visitors may write {MOST_CHARACTERS:,}. Shorten it, "
            "or duplicate this Space to be its owner."
        )


def _tokens(value: Any) -> None:
    if value is not None and not (isinstance(value, int | float) and value <= MOST_TOKENS):
        raise ValueError(
            f"Replies to visitors have at most {MOST_TOKENS} tokens. Set 'Longest reply' to {MOST_TOKENS} or less."
        )


def _number(value: Any) -> None:
    if value is not None and not (isinstance(value, int | float) and abs(value) < 2**53):
        raise ValueError("A setting of this chat is no usable number. Choose it with its slider.")


def _short(value: Any) -> None:
    if value is not None and not (isinstance(value, str) and len(value) <= 64):
        raise ValueError("This chat cannot be found. Reload the page.")


def _precision(value: Any) -> None:
    if value not in (None, AUTOMATIC):
        raise ValueError(f"Visitors share the model as it is. Choose the precision '{AUTOMATIC}' in Settings.")


def _any(value: Any) -> None:
    """For what cannot be wrong."""


CHECKS: Mapping[str, Callable[[Any], None]] = {
    "chat_id": _short,
    "chat_box": _text,
    "chat_system": _text,
    "chat_model_0": _model,
    "chat_model_1": _model,
    "chat_max_tokens": _tokens,
    "chat_temperature": _number,
    "chat_top_k": _number,
    "chat_seed": _number,
    "chat_precision": _precision,
    "chat_both": _any,
}
"""By elem_id: what a visitor's value must be. A handler with any other field is not for visitors."""


def check(values: Mapping[str, Any]) -> None:
    """ValueError in a sentence when a visitor may not send these values of fields, by elem_id."""
    for name, value in values.items():
        judge = CHECKS.get(name)
        if judge is None:
            raise ValueError("Only the owner of this Space may do this.")
        judge(value)


def check_turns(count: int) -> None:
    """ValueError when a visitor's chat of so many turns is long enough."""
    if count >= MOST_TURNS:
        raise ValueError(f"This chat has {count} messages, and visitors' chats end there. Clear it to start over.")


@contextlib.contextmanager
def place() -> Iterator[None]:
    """One of the places for visitors' replies. ValueError when all are taken."""
    if not _places.acquire(blocking=False):
        raise ValueError(
            f"{MOST_REPLIES} replies to other visitors are being written. Try again in a few seconds, "
            "or duplicate this Space to have it for yourself."
        )
    try:
        yield
    finally:
        _places.release()
