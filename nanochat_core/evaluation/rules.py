"""The rules by which a reply is right, under the names that promptfoo gives them. Without torch."""

import json
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import regex

from nanochat_core.system.words import WITHOUT_BLANKS

PATTERN_CHARACTERS = 500
"""Longest regular expression; a longer one can take minutes only to be read."""
PATTERN_SECONDS = 0.25
"""One search may take so long: some patterns need, on some replies, longer than the world is old."""

# Behind a word or a number a "-" joins, as in 2020-2021 and COVID-19: it is no sign there.
_NUMBER = re.compile(
    r"(?:(?<![\w%°])[-+\u2212])?"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE][-+]?\d+)?"
)
_SLACK = Decimal("1e-9")


@dataclass(frozen=True)
class Rule:
    """One condition on a reply."""

    kind: str
    """One of KINDS."""
    values: Sequence[str] = ()
    """What is looked for: any one of these counts, and for not-contains none of them may be there."""
    tolerance: float = 0.0
    """How far a number may be off."""

    def judge(self, reply: str) -> "Verdict":
        """Whether `reply` fulfils it."""
        try:
            return Verdict(KINDS[self.kind](self, reply))
        except TimeoutError:
            slow = f"The pattern {' or '.join(self.values)} took longer than {PATTERN_SECONDS} s: write it simpler."
            return Verdict(right=False, note=slow)

    def __str__(self) -> str:
        """What was expected, for a person."""
        said = " or ".join(self.values)
        if self.kind == "number" and self.tolerance:
            said += f" ± {self.tolerance:g}"
        plain = self.kind in ("contains", "exact", "equals")
        return said if plain else f"{self.kind} {said}".strip()


@dataclass(frozen=True)
class Verdict:
    """Whether a reply is right."""

    right: bool
    note: str = ""
    """Why it could not be judged, a sentence; empty where it could."""

    def __bool__(self) -> bool:
        return self.right


def _contains(rule: Rule, reply: str) -> bool:
    given = _plain(reply)
    return any(_stands_in(_plain(value), given) for value in rule.values)


def _contains_not(rule: Rule, reply: str) -> bool:
    return not _contains(rule, reply)


def _equals(rule: Rule, reply: str) -> bool:
    return any(_plain(reply) == _plain(value) for value in rule.values)


def _starts(rule: Rule, reply: str) -> bool:
    return any(_plain(reply).startswith(_plain(value)) for value in rule.values)


def _matches(rule: Rule, reply: str) -> bool:
    return any(regex.search(value, reply, timeout=PATTERN_SECONDS) is not None for value in rule.values)


def _is_json(rule: Rule, reply: str) -> bool:
    try:
        json.loads(reply, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON, though Python reads it")


def _is_number(rule: Rule, reply: str) -> bool:
    """The last number of a reply is its answer: those before it are mostly the question's."""
    found = _NUMBER.findall(reply)
    if not found:
        return False
    given = _number(found[-1])
    return given is not None and any(_is_near(given, _number(value), rule.tolerance) for value in rule.values)


def _is_near(given: Decimal, value: Decimal | None, tolerance: float) -> bool:
    """Whole numbers are exact; of fractions nine places count, since 0.1 + 0.2 is 0.3 for a person."""
    if value is None:
        return False
    is_whole = given == given.to_integral_value() and value == value.to_integral_value()
    slack = Decimal(0) if is_whole else _SLACK * min(Decimal(1), abs(given))
    return abs(given - value) <= Decimal(str(tolerance)) + slack


def _number(text: str) -> Decimal | None:
    """The number as it is written; None for one that no float can hold."""
    plain = text.strip().replace(",", "").replace("\u2212", "-")
    return Decimal(plain) if math.isfinite(float(plain)) else None


KINDS = {
    "contains": _contains,
    "not-contains": _contains_not,
    "equals": _equals,
    "exact": _equals,
    "starts-with": _starts,
    "regex": _matches,
    "number": _is_number,
    "is-json": _is_json,
}
"""contains: stands in the reply as whole words, where its script has blanks between words; equals (or exact): is the
whole reply; starts-with: is its beginning; case and blanks do not count for these. regex: is found in the reply as it
is. number: is its last number, give or take the tolerance. is-json: the whole reply is JSON."""


def rule_of(kind: Any, expected: Any, tolerance: Any = 0.0) -> Rule:
    """The rule that a questions file describes. ValueError, without the place, for one that cannot be judged."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"the rule is {kind!r:.40}; it must be one of {', '.join(KINDS)}")
    if kind == "is-json":
        return Rule(kind)
    values = expected if isinstance(expected, list) else [expected]
    if kind == "number":
        values = [_written(value) for value in values]
    if not values or not all(isinstance(value, str) and value.strip() for value in values):
        raise ValueError('"expected" must be a text or a list of texts, none of them empty')
    if kind == "number":
        _check_numbers(values, tolerance)
    elif tolerance:
        raise ValueError('"tolerance" belongs to the rule number')
    if kind == "regex":
        _check_patterns(values)
    return Rule(kind, values, float(tolerance))


def _written(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _check_numbers(values: list[str], tolerance: Any) -> None:
    for value in values:
        if not _NUMBER.fullmatch(value.strip()):
            raise ValueError(f"{value!r:.40} is no number")
        if _number(value) is None:
            raise ValueError(f"{value!r:.40} is too large a number; the largest has about 308 digits")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < float("inf"):
        raise ValueError(f'"tolerance" is {tolerance!r:.40}; it must be a number of 0 or more')


def _check_patterns(values: list[str]) -> None:
    for value in values:
        if len(value) > PATTERN_CHARACTERS:
            raise ValueError(f"the pattern has {len(value):,} characters; it may have {PATTERN_CHARACTERS}")
        try:
            regex.compile(value)
        except (regex.error, RecursionError, OverflowError, MemoryError) as error:
            raise ValueError(f"{value!r:.60} is no regular expression ({error})") from error


def _plain(text: str) -> str:
    """The same for all ways to write the same text: é is one character or e with an accent after it."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return " ".join(unicodedata.normalize("NFC", folded).split())


def _stands_in(expected: str, reply: str) -> bool:
    """Whole words only, 7 does not stand in 17; beside a letter of a script without blanks a word may begin and end."""
    before = f"(?<!{_LETTER})" if _is_bound(expected[0]) else ""
    after = f"(?!{_LETTER})" if _is_bound(expected[-1]) else ""
    return regex.search(before + regex.escape(expected) + after, reply) is not None


def _is_bound(letter: str) -> bool:
    return letter != "_" and regex.match(_LETTER, letter) is not None


_LETTER = rf"(?:[^\W{WITHOUT_BLANKS}\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\ufe00-\ufe0f\u20e3]|\p{{No}})"
"""A letter or a digit. The vowel signs of Indian scripts are letters (which `re` does not know), accents and the points
of Arabic and Hebrew, that may be left out, are none."""
