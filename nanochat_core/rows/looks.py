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
from nanochat_core.system.words import SEEN, plural

_PLACEHOLDER = re.compile(
    r"[\W_]*|n/?a|todo|tbd|null|none|nan|undefined|\[?(answer|response|reply|text|your answer)( here)?\]?"
    r"|lorem ipsum.*",
    re.IGNORECASE | re.DOTALL,
)
_ENDED = re.compile(r"[.!?…。！？।؟:;][\"'”’»)\]*_`]*\s*$|```\s*$|[\"'”’»)\]}>|*`]\s*$")
_HANGING = set_of(
    "the a an and or of to in on at for with from by is are was that which because if as but than then we you our your "
    "und oder der die das ein eine mit von zu le la les et ou de des un une el los y o que"
)
_MOJIBAKE = re.compile(r"Ã[\u0080-\u00bf]|â€|Â[\u00a0-\u00bf]|\ufffd")
_PAIRS = {"(": ")", "[": "]", "{": "}", "“": "”", "«": "»"}
_USUAL = 0.9
"""Share of the rows that makes something usual."""
_SHORT = 4
"""Words from which an answer is expected to end as sentences do."""
_SIGNS = 12
"""Letters by which an answer that only repeats its question may differ from it in length."""
_RARE = 0.05
"""Share of the rows up to which another script or language is odd, and not a part of the data."""


def look_at(rows: Sequence[Row]) -> Iterator[Finding]:
    """The findings, row by row. One row has at most one of each kind."""
    ends = _usually_ends(rows)
    for row in rows:
        empty = _empty(row)
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


def _empty(row: Row) -> Finding | None:
    for turn in row.turns:
        if _PLACEHOLDER.fullmatch(turn.answer.strip()) and not _is_symbolic(turn.answer):
            said = f"is only {excerpt(turn.answer)}" if SEEN.search(turn.answer) else "is empty"
            return finding(
                "empty", [row.line], f"The answer to {excerpt(turn.prompt)} {said}: the model learns silence."
            )
    return None


def _is_symbolic(answer: str) -> bool:
    """Signs that can be an answer: an emoji, an operator."""
    return any(
        ord(letter) > 0x2000 and letter not in "…–—‘’“”•" and SEEN.match(letter) for letter in answer
    ) or answer.strip() in tuple("+*/<>=")


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
    words = words_of(answer)
    if len(words) >= 3 and (answer.endswith((",", "-", "–")) or (words[-1] in _HANGING and answer[-1].isalpha())):
        return f"breaks off after “{answer.split()[-1]}”", 1.0
    if any(answer.count(opening) > answer.count(closing) for opening, closing in _PAIRS.items()):
        return "ends within brackets or quotes", 0.9
    if ends and answer.count(" ") >= _SHORT and answer[-1].isalnum():
        return "ends without a full stop, as nearly no other does", 0.7
    return None


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
    sizes = [math.log1p(len(row.answer.split()) or 0) for row in rows]
    if len(sizes) < 20:
        return
    middle = statistics.median(sizes)
    spread = max(0.35, 1.4826 * statistics.median(abs(size - middle) for size in sizes))
    far = [(row, size) for row, size in zip(rows, sizes) if abs(size - middle) > 5 * spread]
    if len(far) > _RARE * len(rows):
        return
    for row, size in far:
        words, usual = len(row.answer.split()), round(math.expm1(middle))
        how = "longer" if size > middle else "shorter"
        reason = (
            f"The answer to {excerpt(row.prompt)} has {plural(words, 'word')}, half of all have {usual} or fewer: "
            f"it is far {how} than nearly every other."
        )
        yield finding("odd", [row.line], reason, 0.5)
