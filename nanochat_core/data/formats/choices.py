"""Answers that are none: the letter or the number of a choice, the name of the better one of two answers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nanochat_core.data.formats import names
from nanochat_core.data.formats.names import plain

_SIGN = re.compile(r"\(?([a-h]|\d{1,2})[.):]?", re.IGNORECASE)
"""`B`, `(b)`, `2.`: what people write for a choice."""
_ONE_OF_SEVERAL = re.compile(r"(.+_)?[a-h]|(.+?)_?\d")
"""`response_a`, `A`, `output1`: a key of one of several."""
_LONGEST = 30


def refuse_sign(values: Mapping[str, Any], answer: str) -> None:
    """ValueError when the answer is only the sign of a choice that stands beside the question in words."""
    said = values[answer]
    text = str(said).strip() if isinstance(said, str | int) and not isinstance(said, bool) else ""
    if _SIGN.fullmatch(text) and (beside := _choices(values, text)):
        raise ValueError(
            f'The "{answer}" ({text}) only names one of the choices, which stand beside the question ({beside}): write '
            "them into the question, and the answer in words."
        )


def refuse_verdict(values: Mapping[str, Any], chosen: str) -> None:
    """ValueError when what should be the chosen answer only says which of several answers is the better one."""
    said = values[chosen]
    if not isinstance(said, str) or len(said) > _LONGEST or len(said.split()) > 1:
        return
    if beside := _several(name for name, value in values.items() if isinstance(value, str | list) and value):
        raise ValueError(
            f'The "{chosen}" ({said.strip()}) only says which answer is better ({beside}): write that one as "chosen" '
            'and the other one as "rejected".'
        )


def _choices(values: Mapping[str, Any], said: str) -> str:
    """The keys of the choices; "" for none, and where the answer stands among them."""
    listed = next((name for name in names.OPTIONS if values.get(name)), "")
    if listed:
        options = values[listed]
        return "" if isinstance(options, list) and said in map(str, options) else listed
    return _several(name for name, value in values.items() if isinstance(value, str) and value)


def _several(keys: Iterable[str]) -> str:
    """Keys that are told apart by a letter or a number at their end alone; "" for none."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        if match := _ONE_OF_SEVERAL.fullmatch(plain(key)):
            groups.setdefault(match[1] or match[2] or "", []).append(key)
    return next((", ".join(group[:4]) for group in groups.values() if len(group) > 1), "")
