"""Rows whose answers look wrong by themselves, or unlike those of the other rows: cut off, empty, odd."""

import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from nanochat_core.rows.findings import Finding, excerpt, finding
from nanochat_core.rows.language import language_of, script_of
from nanochat_core.rows.row import Row, Turn
from nanochat_core.rows.wording import set_of, words_of
from nanochat_core.system.words import SEEN, WITHOUT_BLANKS, plural

_PLACEHOLDER = re.compile(
    r"[\W_]*|n/?a|todo|tbd|nan|\[(answer|response|reply|text|your answer)( here)?\]"
    r"|(answer|response|reply|text|your answer) here|your answer|lorem ipsum.*",
    re.IGNORECASE | re.DOTALL,
)
_LABEL = re.compile(r"none|null|undefined|answer|response|reply|text", re.IGNORECASE)
"""Placeholders that are answers where the question names them, or where most answers are one word: labels."""
_SILENT = frozenset("._,;:!?…–—‘’“”•·-'\"`")
_DRAWN = re.compile(r"([*#=~/|+])\1{2,}")
"""Signs that are an answer alone, such as an operator, and a line where they are repeated."""
_ENDED = re.compile(r"[.!?…。！？।؟:;][\"'”’»)\]*_`]*\s*$|```\s*$|[\"'”’»)\]}>|*`]\s*$")
_HANGING = set_of("the a an and or because if but than our your und oder der et ou de des une el los o que")
"""Words that end no sentence,"""
_SELDOM_LAST = set_of(
    "of to in on at for with from by is are was that which as then we you die das ein eine mit von zu le la les un y"
)
"""and those that end few: what you look for, nice to meet you, ich komme mit."""
_MOJIBAKE = re.compile(r"Ã[\u0080-\u00bf]|â€|Â[\u00a0-\u00bf]|\ufffd")
_PAIRS = {"([": ")]", "{": "}", "“": "”", "«": "»"}
"""Round and square ones are one kind: [0, 1) is whole."""
_SAD = re.compile(r"[:;=]['^-]?[(\[{]")
_USUAL = 0.95
"""Share of the rows that makes something usual."""
_SIZED = re.compile(rf"[{WITHOUT_BLANKS}]|[^\s{WITHOUT_BLANKS}]+")
_WITHOUT_BLANKS = re.compile(f"[{WITHOUT_BLANKS}]")
_SHORT = 4
"""Words from which an answer is expected to end as sentences do."""
_SIGNS = 12
"""Letters by which an answer that only repeats its question may differ from it in length."""
_RARE = 0.05
"""Share of the rows up to which another script or language is odd, and not a part of the data."""


def look_at(rows: Sequence[Row]) -> Iterator[Finding]:
    """The findings, row by row. One row has at most one of each kind."""
    ends, labels = _usually_ends(rows), _are_labels(rows)
    for row in rows:
        empty = _empty(row, labels)
        if empty is not None:
            yield empty
            continue
        if (cut := _cut(row, ends)) is not None:
            yield cut
        if (odd := _odd(row)) is not None:
            yield odd
    yield from _foreign(rows, script_of, "script")
    yield from _foreign(rows, language_of, "language")
    yield from _lengths(rows)


def _are_labels(rows: Sequence[Row]) -> bool:
    """Whether the usual answer is one word."""
    sizes = [_size(turn.answer) for row in rows for turn in row.turns]
    return len(sizes) >= 5 and statistics.median(sizes) <= 1


def _size(text: str) -> int:
    """Words, and signs of scripts without blanks between words."""
    return len(_SIZED.findall(text))


def _empty(row: Row, labels: bool) -> Finding | None:
    for turn in row.turns:
        if _is_nothing(turn, labels):
            said = f"is only {excerpt(turn.answer)}" if SEEN.search(turn.answer) else "is empty"
            return finding(
                "empty", [row.line], f"The answer to {excerpt(turn.prompt)} {said}: the model learns silence."
            )
    return None


def _is_nothing(turn: Turn, labels: bool) -> bool:
    answer = turn.answer.strip()
    if _LABEL.fullmatch(answer):
        return not labels and answer.casefold() not in turn.prompt.casefold()
    return _PLACEHOLDER.fullmatch(answer) is not None and not _is_symbolic(answer)


def _is_symbolic(answer: str) -> bool:
    """Signs that can be an answer: an emoji, an operator, an empty list."""
    if not SEEN.search(answer) or answer[0].isalnum() or answer[1:2].isalnum() or _DRAWN.fullmatch(answer):
        return False
    return any(letter not in _SILENT for letter in SEEN.findall(answer))


# Cut off


def _usually_ends(rows: Sequence[Row]) -> bool:
    """Whether answers of some words end as sentences do, in this file."""
    ends = [
        bool(_ENDED.search(turn.answer))
        for row in rows
        for turn in row.turns
        if turn.answer.count(" ") >= _SHORT and not _is_copied(turn)
    ]
    return len(ends) >= 5 and sum(ends) >= _USUAL * len(ends)


def _is_copied(turn: Turn) -> bool:
    """Whether the answer stands in the question, which then says how it ends."""
    return turn.answer.strip() in turn.prompt


def _cut(row: Row, ends: bool) -> Finding | None:
    for turn in row.turns:
        answer = turn.answer.rstrip()
        if _is_copied(turn):
            continue
        if sign := _sign_of_cut(answer, ends):
            last = excerpt("…" + answer[-50:] if len(answer) > 50 else answer)
            return finding("cut", [row.line], f"The answer to {excerpt(turn.prompt)} {sign[0]}: {last}.", sign[1])
    return None


def _sign_of_cut(answer: str, ends: bool) -> tuple[str, float] | None:
    """(what shows that an answer is cut off, how sure that is); None when nothing does."""
    if answer.count("```") % 2:
        return "ends within a block of code", 1.0
    if _ENDED.search(answer):
        return None
    words, last = words_of(answer), answer.split()[-1]
    if len(words) >= 3 and (answer.endswith((",", "-", "–")) or _is_hanging(words[-1], answer, ends)):
        return f"breaks off after “{last}”", 1.0
    if _is_open(answer):
        return "ends within brackets or quotes", 0.9
    if ends and answer.count(" ") >= _SHORT and answer[-1].isalnum():
        return "ends without a full stop, as nearly no other does", 0.7
    return None


def _is_hanging(word: str, answer: str, ends: bool) -> bool:
    """Whether a sentence cannot end with its last word. A letter is a name, as in: vitamin A, the answer is A."""
    if not answer[-1].isalpha() or (len(word) == 1 and answer[-1].isupper()):
        return False
    return word in _HANGING or (ends and answer.count(" ") >= _SHORT and word in _SELDOM_LAST)


def _is_open(answer: str) -> bool:
    plain = _SAD.sub(" ", answer)
    pairs = {"„": "“”"} | {opening: closing for opening, closing in _PAIRS.items() if opening != "“"}
    return any(
        sum(map(plain.count, opening)) > sum(map(plain.count, closing))
        for opening, closing in (pairs if "„" in plain else _PAIRS).items()
    )


# Odd


def _odd(row: Row) -> Finding | None:
    for turn in row.turns:
        answer = words_of(turn.answer)
        if len(answer) >= 4 and abs(len(turn.answer) - len(turn.prompt)) < _SIGNS and answer == words_of(turn.prompt):
            return finding("odd", [row.line], f"The answer only repeats the question {excerpt(turn.prompt)}.")
        if found := _loop(answer):
            reason = f"The answer to {excerpt(turn.prompt)} says {excerpt(found)} over and over."
            return finding("odd", [row.line], reason)
        if broken := _MOJIBAKE.search(turn.answer + turn.prompt):
            around = (turn.answer + turn.prompt)[max(0, broken.start() - 10) : broken.end() + 10]
            reason = f"Letters were broken when the text was saved in another encoding: {excerpt(around)}."
            return finding("odd", [row.line], reason, 0.9)
    return None


def _loop(words: list[str]) -> str | None:
    """A phrase that fills a long answer by being repeated."""
    if len(words) < 12:
        return None
    for size in (1, 2, 3, 4, 6, 8):
        last = words[-size:]
        times = 1
        while words[-size * (times + 1) : -size * times] == last:
            times += 1
        if times >= 4 and times * size >= 8:
            return " ".join(last)
    return None


def _foreign(rows: Sequence[Row], of: Callable[[str], str | None], what: str) -> Iterator[Finding]:
    """Answers in another script or language than nearly all. A question in that one asks for it, and is named."""
    found = [of(row.answer) for row in rows]
    counts = Counter(name for name in found if name)
    if counts.total() < 10:
        return
    usual, count = counts.most_common(1)[0]
    if count < (1 - _RARE) * counts.total():
        return
    for row, name in zip(rows, found):
        if name and name != usual:
            asked = of(row.prompt)
            too = " So is its question." if asked == name else ""
            reason = (
                f"The answer {excerpt(row.answer)} is in {_named(name)}, where {count / counts.total():.0%} of the "
                f"answers are in {_named(usual)}.{too}"
            )
            yield finding("odd", [row.line], reason, 0.7 if too else 1.0)


def _named(name: str) -> str:
    return name if not name.isupper() else f"{name.capitalize()} letters"


def _lengths(rows: Sequence[Row]) -> Iterator[Finding]:
    """Answers of a length that is far from all others', in the scale of their logarithms."""
    sizes = [math.log1p(_size(row.answer)) for row in rows]
    if len(sizes) < 20:
        return
    middle = statistics.median(sizes)
    spread = max(0.35, 1.4826 * statistics.median(abs(size - middle) for size in sizes))
    far = [(row, size) for row, size in zip(rows, sizes) if abs(size - middle) > 5 * spread]
    if len(far) > _RARE * len(rows):
        return
    for row, size in far:
        words, usual = _size(row.answer), round(math.expm1(middle))
        what = "sign" if _WITHOUT_BLANKS.search(row.answer) else "word"
        how = "longer" if size > middle else "shorter"
        reason = (
            f"The answer to {excerpt(row.prompt)} has {plural(words, what)}, half of all have {usual} or fewer: "
            f"it is far {how} than nearly every other."
        )
        yield finding("odd", [row.line], reason, 0.5)
