"""The rulebook of messages, for training data, chats and the server alike: roles, parts, marks, and what is joined."""

from collections.abc import Mapping, Sequence
from typing import Any

ROLES = ("system", "user", "assistant")
PART_TYPES = ("text", "python", "python_output")

LEARN_MARKS = frozenset(
    ("train", "trained", "trainable", "training", "loss", "weight", "loss_weight", "loss_mask", "compute_loss", "learn")
)
"""Keys of a message (or of a whole record) whose false or 0 says that it is not to be trained."""
SKIP_MARKS = frozenset(("masked", "no_loss", "no_train", "skip_loss", "ignore_loss", "exclude_from_loss"))
"""Keys whose true or 1 says so."""
UNCLEAR_MARKS = frozenset(("mask", "train_detail", "training_detail", "token_weights"))
"""Keys that speak of training a part of a message, or mean yes in some programs and no in others."""

_NO = (False, 0, "0", "0.0", "false", "no")
_YES = (True, 1, "1", "1.0", "true", "yes")


def not_trained_by(entry: Mapping[str, Any]) -> str | None:
    """The key that marks a message, or a whole record, as not to be trained; None when nothing does."""
    for key, value in entry.items():
        name = key.lower()
        if (name in LEARN_MARKS and says(value) is False) or (name in SKIP_MARKS and says(value) is True):
            return key
    return None


def says(value: Any) -> bool | None:
    """Yes or no, as files write it (true, 1, "false", 0.0); None for whatever is neither."""
    value = value.strip().lower() if isinstance(value, str) else value
    if isinstance(value, list | dict):
        return None
    return False if value in _NO else True if value in _YES else None


def odd_marks(entry: Mapping[str, Any]) -> list[str]:
    """Keys that speak of training in a way that cannot be followed, such as a negative weight or a mask by tokens."""
    odd = []
    for key, value in entry.items():
        name = key.lower()
        if value is None or value == [] or value == {}:
            continue
        if name in UNCLEAR_MARKS or (name in LEARN_MARKS | SKIP_MARKS and says(value) is None and not _is_share(value)):
            odd.append(key)
    return odd


def fractions(entry: Mapping[str, Any]) -> list[str]:
    """Keys that ask for more or less weight, such as 0.5 or 3: the training knows all or nothing."""
    return [
        key for key, value in entry.items() if key.lower() in LEARN_MARKS and says(value) is None and _is_share(value)
    ]


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def wrong_part(part: Any) -> str | None:
    """What is wrong with one part of an assistant's content, as the end of a sentence; None when it is right."""
    if not isinstance(part, dict):
        return "is not an object"
    kind = part.get("type")
    if not isinstance(kind, str):
        return 'has no "type", or it is not text'
    if kind not in PART_TYPES:
        return f"has the type {kind!r:.40}"
    return None if isinstance(part.get("text"), str) else 'has no "text", or it is not text'


def joined_parts(content: Any) -> str | None:
    """The text of a list of text parts, with line breaks between them; None when it is something else."""
    if isinstance(content, list) and content and all(map(_is_text_part, content)):
        return "\n".join(part["text"] for part in content)
    return None


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)


def joined(messages: Sequence[Any]) -> list[Any]:
    """The messages, with neighbours of one role joined by an empty line; others, and their other keys, as they are.

    An answer that is to be trained and one that is not stay apart, and so does what is no text.
    """
    result: list[Any] = []
    for message in messages:
        one = _pair(result[-1], message) if result else None
        if one is None:
            result.append(message)
        else:
            result[-1] = one
    return result


def _pair(first: Any, second: Any) -> dict[str, Any] | None:
    """Both as one message; None when they do not belong together."""
    if not (isinstance(first, dict) and isinstance(second, dict)) or first.get("role") != second.get("role"):
        return None
    if first.get("role") not in ROLES or (not_trained_by(first) is None) != (not_trained_by(second) is None):
        return None
    content = _together(first.get("content"), second.get("content"))
    return None if content is None else {**first, **second, "content": content}


def _together(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return "\n\n".join(text for text in (first, second) if text.strip()) or first
    parts = [
        [{"type": "text", "text": content}] if isinstance(content, str) else content for content in (first, second)
    ]
    if not all(isinstance(content, list) and not any(map(wrong_part, content)) for content in parts):
        return None
    between = [{"type": "text", "text": "\n\n"}] if parts[0] and parts[1] else []
    return [*parts[0], *between, *parts[1]]
