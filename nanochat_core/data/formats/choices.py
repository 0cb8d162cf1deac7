"""Answers that are none: the letter or the number of a choice, the name of the better one of two answers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nanochat_core.data.formats import names
from nanochat_core.data.formats.names import plain

_SIGN = re.compile(r"\(?([a-h]|\d{1,2})[.):]?", re.IGNORECASE)
"""`B`, `(b)`, `2.`: what people write for a choice."""
_ONE_OF_SEVERAL = re.compile(r"(.+_)?([a-h])|(.+?_?)?(\d)")
"""`response_a`, `A`, `output1`: one of several, by its letter or number."""
_NEITHER = ("tie", "both", "neither", "equal", "draw", "none")


def refuse_sign(values: Mapping[str, Any], answer: str) -> None:
    """ValueError when the answer is only the sign of a choice, and the question does not say the choices in words."""
    said = values[answer]
    text = str(said).strip() if isinstance(said, str | int) and not isinstance(said, bool) else ""
    if not _SIGN.fullmatch(text):
        return
    listed = next((name for name in names.OPTIONS if values.get(name) and _texts(values[name])), "")
    beside = [listed] if listed else _several(name for name, value in values.items() if isinstance(value, str))
    choices = [text for name in beside for text in _texts(values[name])]
    asked = " ".join(str(values[name]) for name in names.QUESTIONS if name in values)
    if choices and text not in choices and not all(choice in asked for choice in choices):
        raise ValueError(
            f'The "{answer}" ({text}) only names one of the choices, which stand beside the question '
            f"({', '.join(beside[:4])}): write them into the question, or the answer in words."
        )


def refuse_verdict(values: Mapping[str, Any], chosen: str) -> None:
    """ValueError when what should be the chosen answer only says which of several answers is the better one."""
    said = values[chosen]
    word = plain(said) if isinstance(said, str) else ""
    beside = _several(name for name, value in values.items() if isinstance(value, str | list) and value)
    if beside and (word in _NEITHER or _sign_of(word) in map(_sign_of, beside)):
        raise ValueError(
            f'The "{chosen}" ({said.strip()}) only says which answer is better ({", ".join(beside[:4])}): write that '
            'one as "chosen" and the other one as "rejected".'
        )


def _texts(choices: Any) -> list[str]:
    """The texts of choices that are a text, a list, or an object: by their signs, or with a list of signs beside."""
    if isinstance(choices, dict):
        return _texts(choices.get("text", list(choices.values())))
    if isinstance(choices, str):
        return [choices.strip()]
    return list(map(str, choices)) if isinstance(choices, list) else []


def _sign_of(word: str) -> str:
    """The letter or number at its end by which it is one of several; the word itself when there is none."""
    match = _ONE_OF_SEVERAL.fullmatch(word)
    return match[2] or match[4] if match else word


def _several(keys: Iterable[str]) -> list[str]:
    """Keys that are told apart by a letter or a number at their end alone; [] for none."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        if match := _ONE_OF_SEVERAL.fullmatch(plain(key)):
            groups.setdefault(match[1] or match[3] or "", []).append(key)
    return next((group for group in groups.values() if len(group) > 1), [])
