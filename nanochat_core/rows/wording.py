"""Whether two questions ask the same, and whether two answers say the same, as far as their words tell.

Careful on purpose: a word that is another one, a number, a name makes another question. Only words that never change
what is asked, one word more that adds nothing, and one slip of the pen are looked past.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import regex

from nanochat_core.system.words import SEEN, WITHOUT_BLANKS


def set_of(words: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(words.split())


# Not of `re`, which takes the vowel signs of Indian scripts for no letters: दिन and दान would be the same word.
_LETTERS = rf"[\p{{L}}\p{{Nl}}\p{{No}}--[{WITHOUT_BLANKS}]][\p{{L}}\p{{M}}\p{{Nl}}\p{{No}}--[{WITHOUT_BLANKS}]]*"
# A sign of a script without blanks is a word of its own.
_WORD_PATTERN = rf"\d+(?:[.,:]\d+)*|[{WITHOUT_BLANKS}]|{_LETTERS}(?:['’]{_LETTERS})*|[=<>+*/^%$€£-]"
_WORD = regex.compile(_WORD_PATTERN, regex.V1)
# A name of code or of the net: another letter, another case or an "is" makes another one. No abbreviation, as z.B.
_CODE = r"`[^`\s]+`|\p{L}\w+(?:[._]\w{2,})+"
_IS_CODE = re.compile(r"[`_]|\w\.[^\W\d]")
# What a question may be about as well: && is not ||, C# is not C, and one picture is not another.
_ASKED_WORD = regex.compile(
    rf"{_CODE}|{_WORD_PATTERN}|[&|@#~\\{{}}\[\]]+|\p{{So}}[\p{{So}}\p{{Sk}}\u200d\ufe0f]*", regex.V1
)
_POLITE = re.compile(
    r"\b(?:(?:can|could|would|will) you (?:please |kindly |just )?(?:tell|say to|show) me|"
    r"(?:can|could|would|will) you please|(?:please |kindly |just )?(?:tell|show) me|do you (?:happen to )?know|"
    r"i (?:want|would like|'d like|wish) to know|i(?:'d| would) like to ask|may i ask|"
    r"thank you|thanks(?: a lot)?|good (?:morning|day|evening)|(?:bitte )?sag mir|"
    r"s'il (?:te|vous) pla[iî]t|por favor|kannst du mir (?:bitte )?sagen)\b",
    re.IGNORECASE,
)
_FREE = set_of(
    "please kindly just hi hello hey well so ok okay exactly actually really simply quickly briefly currently bitte "
    "mal denn the teh a an der die das le la les el los il"
)
"""Words without which a question is the same."""
_ADDS_LITTLE = set_of(
    "up there here now then it to of for in at on me you we i us is are do does did be been have has will would can "
    "could should today again usually normally also too that this your our my and or but about"
)
"""One of these more or less, at an end or within, and a question is nearly the same."""
_INTERCHANGEABLE = (
    ("is", "are", "was"),
    ("do", "does", "did"),
    ("can", "could", "may"),
    ("will", "would", "shall"),
    ("has", "have"),
    ("shop", "store"),
    ("and", "&"),
)
_SAME = {word: group[0] for group in _INTERCHANGEABLE for word in group}
_LONG = {"'s": " is", "’s": " is", "'re": " are", "’re": " are", "n't": " not", "n’t": " not", "'ll": " will"}
_CONTRACTED = re.compile(r"(?<=\w)(?:'s|’s|'re|’re|n't|n’t|'ll)\b")
_QUESTION_WORDS = re.compile(r"\b(what|where|when|who|how|that|it|there|here)(?:'s|’s)\b", re.IGNORECASE)
SLIP_FROM = 5
"""Letters from which one wrong letter is a slip and not another word."""


def words_of(text: str) -> list[str]:
    """Words, numbers and signs of arithmetic, without case and punctuation; of a text without any, all that is seen."""
    return _split(text, _WORD) or SEEN.findall(text)


def _split(text: str, word: regex.Pattern[str]) -> list[str]:
    text = _QUESTION_WORDS.sub(r"\1 is", text)
    text = _CONTRACTED.sub(lambda found: _LONG[found[0]] if found[0] not in ("'s", "’s") else found[0], text)
    found = word.findall(unicodedata.normalize("NFC", text))
    return [one.replace("’", "'") if _IS_CODE.search(one) else one.replace("’", "'").casefold() for one in found]


@lru_cache(1 << 17)
def question_words(text: str) -> tuple[str, ...]:
    """What a question asks, without courtesies; all its words where nothing else would be left."""
    every = _split(text, _ASKED_WORD)
    kept = [word for word in _split(_POLITE.sub(" ", text), _ASKED_WORD) if word not in _FREE]
    return tuple(kept or every or SEEN.findall(text))


def nearly_same(one: Sequence[str], other: Sequence[str], is_rare: frozenset[str] | None = None) -> bool:
    """Whether two questions, as of `question_words`, ask the same.

    is_rare: words that stand in one row alone; a slip of the pen is one of them, where that is known.
    """
    if one == other:
        return True
    if len(one) < len(other):
        one, other = other, one
    if len(one) == len(other):
        different = [(a, b) for a, b in zip(one, other) if a != b]
        return len(one) > 2 and len(different) == 1 and _same_word(*different[0], is_rare)
    if len(one) != len(other) + 1 or len(other) < 3:
        return False
    place = next((place for place, (a, b) in enumerate(zip(one, other)) if a != b), len(other))
    adds_little = one[place] in _ADDS_LITTLE or unicodedata.category(one[place][0]) == "So"
    return adds_little and one[place + 1 :] == other[place:]


def _same_word(one: str, other: str, is_rare: frozenset[str] | None) -> bool:
    if _SAME.get(one, one) == _SAME.get(other, other):
        return True
    if min(len(one), len(other)) < SLIP_FROM or not (one.isalpha() and other.isalpha()):
        return False
    if is_rare is not None and one not in is_rare and other not in is_rare:
        return False
    return _is_slip(one, other)


def _is_slip(one: str, other: str) -> bool:
    """Whether a letter is missing, added, another one, or two neighbours are exchanged. The first is seldom wrong."""
    if one[0] != other[0]:
        return False
    if len(one) == len(other):
        wrong = [place for place, (a, b) in enumerate(zip(one, other)) if a != b]
        is_swap = len(wrong) == 2 and wrong[1] == wrong[0] + 1 and one[wrong[0]] == other[wrong[1]]
        return len(wrong) == 1 or (is_swap and one[wrong[1]] == other[wrong[0]])
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    return len(longer) == len(shorter) + 1 and any(
        longer[:place] + longer[place + 1 :] == shorter for place in range(len(longer))
    )


FUNCTION_WORDS = _FREE | set_of(
    "is are was were be been am it its there here this that of to in on at for from by with and or as our your my we "
    "you i he she they us will would can could has have had do does did yes, of course sure certainly answer number "
    "thing sorry than then which who what"
)
"""Words that carry no answer, and of which no stretch of text can be told."""
_NEGATIONS = set_of("no not never none nothing nobody nein nicht kein keine non ne pas jamais sin nunca")
_LONG_ANSWER = 40


def agreement(one: str, other: str, question: str) -> float:
    """How far two answers to `question` say the same: 1 for the same, 0 when nothing that matters is shared.

    What stands in the question says nothing. An answer that says more than the other, and nothing else, agrees.
    """
    first, second = words_of(one), words_of(other)
    if first == second:
        return 1.0
    if _is_denied(first) != _is_denied(second):
        return 0.0
    asked = set(words_of(question))
    a, b = _informative(first, asked), _informative(second, asked)
    if not a or not b:  # nothing but words of the question: the order alone may tell them apart
        return 1.0 if sorted(first) == sorted(second) else 0.5
    shared = len(a & b) / min(len(a), len(b))
    if {word for word in a ^ b if word[0].isdigit()} and not (a <= b or b <= a):
        return min(shared, 0.4)
    return shared


def agrees(one: str, other: str, question: str) -> bool:
    """Whether two answers need no choice between them. Long ones are seldom worded alike."""
    long = min(len(one), len(other)) > 6 * _LONG_ANSWER
    return agreement(one, other, question) >= (0.4 if long else 0.8)


def _informative(words: list[str], asked: set[str]) -> set[str]:
    return {word for word in words if word not in FUNCTION_WORDS and word not in asked}


def _is_denied(words: list[str]) -> bool:
    return not _NEGATIONS.isdisjoint(words)
