"""Words for sentences: plurals, quotes, durations; foreign text made safe to print, and ours to leave the machine."""

import re
import unicodedata
from pathlib import Path
from typing import Any

from nanochat_core.paths import PROJECT_ROOT, home

_UNSEEN = (
    *((0x00, 0x20), (0x7F, 0xA0), (0xAD, 0xAD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x1680, 0x1680)),
    *((0x17B4, 0x17B5), (0x180B, 0x180F), (0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x206F), (0x2800, 0x2800)),
    *((0x3000, 0x3000), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0x1BCA0, 0x1BCA3)),
    *((0x1D173, 0x1D17A), (0xE0001, 0xE0001), (0xE0020, 0xE007F), (0xE0100, 0xE01EF)),
)
"""First and last code of what is drawn as nothing: blanks, controls, marks without width or form, empty letters."""

SEEN = re.compile(f"[^{''.join(f'{re.escape(chr(first))}-{re.escape(chr(last))}' for first, last in _UNSEEN)}]")
"""Finds a character that is seen: a text without one says nothing. As quick as `str.strip`, and one definition."""

_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that change the direction of the text after them."""

WITHOUT_BLANKS = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
"""Inside the brackets of a pattern: the letters of scripts without blanks between words (kana, Chinese signs, Thai)."""

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def whole(text: str, instead: str = "\ufffd") -> str:
    """The text without halves of surrogate pairs (half an emoji): nothing that holds one can be sent or written."""
    return text if text.isascii() else _HALF_CHARACTER.sub(instead, text)


def plural(number: int, noun: str) -> str:
    """`1 line`, `2 lines`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def name_numbers(noun: str, numbers: list[int], limit: int = 5) -> str:
    """`Message 3`, `Messages 3 and 5`, `Messages 1, 2, 3, 4, 5 and 99,995 more`."""
    assert numbers
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    if len(numbers) > limit:
        return f"{noun}s {', '.join(map(str, numbers[:limit]))} and {len(numbers) - limit:,} more"
    return f"{noun}s {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def printable(text: str) -> str:
    """A foreign text for a sentence of ours: control characters and what cannot be seen are spelled by number."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


def for_terminal(text: str) -> str:
    """A foreign text of several lines without what would steer the terminal or turn the direction of writing.

    Joiners inside emoji and the marks of right-to-left scripts stay.
    """
    return "".join(letter for letter in text if letter in "\n\t" or not _steers(letter))


def first_hidden(text: str) -> str | None:
    """The first character that nobody sees or that turns the direction of writing, as U+200B; None without one.

    In a name it would make two names look alike, or one look like what it is not.
    """
    hidden = (letter for letter in text if letter != " " and not (SEEN.match(letter) and letter.isprintable()))
    return next((f"U+{ord(letter):04X}" for letter in hidden), None)


def _steers(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs") or letter in _TURNING


def quoted(text: str, limit: int = 40) -> str:
    """A foreign text in quotes, shortened, safe to print: no control characters, nothing that cannot be encoded."""
    return f"'{printable(text[:limit])}{'...' if len(text) > limit else ''}'"


def duration(seconds: float | None) -> str:
    """A time as people say it; a dash when it is not known."""
    if seconds is None:
        return "–"
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


_ABSOLUTE = re.compile(r"(?:/|~[/\\]|[A-Za-z]:[/\\]|\\\\|file:)")


def without_paths(value: Any) -> Any:
    """`value` (of a JSON file) without entries called path or *_path; of other absolute paths the last part is kept."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items() if key != "path" and not key.endswith("_path")}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return _scrubbed(value) if isinstance(value, str) else value


def _scrubbed(text: str) -> str:
    if _ABSOLUTE.match(text):
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    for folder in (home(), PROJECT_ROOT, Path.home()):
        if folder != Path(folder.anchor):
            text = text.replace(f"{folder}/", "").replace(str(folder), "")
    return text


def size(count: float | None) -> str:
    """Bytes as people read them; a dash when not known."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
