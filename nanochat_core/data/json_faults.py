"""Reads JSON and, where that fails, says in plain words what is wrong, where, and how to put it right."""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

from nanochat_core.data.report import Fault
from nanochat_core.system.words import quoted

TOO_DEEP = Fault(
    "error",
    "nested_too_deeply",
    "Brackets are nested far too deeply; a conversation needs five levels.",
    "Remove this line, or write it again.",
)


# Every two bytes of JSON can make a Python object of a hundred: 20 MB of "{}," would take minutes and gigabytes.
_LONG_TEXT, _MAX_BRACKETS, _MAX_COMMAS = 1_000_000, 500_000, 2_000_000


class _NotJson(ValueError):
    """NaN or Infinity: Python's json module reads them, no other program has to."""


def _refuse_constant(name: str) -> NoReturn:
    raise _NotJson(name)


# Built once: with a hook for NaN only, the C scanner does everything.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_SCAN: Callable[[str, int], tuple[Any, int]] = vars(_DECODER)["scan_once"]


def read_json(text: str, column: int = 0) -> tuple[Any, Fault | None, int]:
    """(value, None, 0), or (None, fault, line within `text` counted from 0).

    `column` is the number of characters that stand before `text` on its line.
    """
    if len(text) > _LONG_TEXT and _has_too_many_parts(text):
        message = (
            f"This holds more than {_MAX_BRACKETS:,} brackets or {_MAX_COMMAS:,} commas, far beyond a conversation."
        )
        return None, Fault("error", "too_large", message, "Split it into conversations of a few messages each."), 0
    try:
        value, end = _SCAN(text, 0)  # decode() without its search for blanks around the value
    except (StopIteration, ValueError, RecursionError):  # what it is, is said below
        end = -1
    if end == len(text):
        return value, None, 0
    try:
        return _DECODER.decode(text), None, 0
    except json.JSONDecodeError as error:
        fault = _explain(text, error, column)
        return None, fault, 0 if fault.kind == "never_closed" else error.lineno - 1
    except _NotJson as error:
        name = str(error)
        fix = 'Use a number, or text in quotes such as "unknown".'
        return None, Fault("error", "not_json", f"{name} is not allowed in JSON.", fix), _line_of(text, name)
    except RecursionError:
        return None, TOO_DEEP, 0
    except ValueError:  # after its subclasses above: only Python's limit on digits is left
        number = re.search(rf"\d{{{sys.get_int_max_str_digits()},}}", text)
        assert number, "json raised a ValueError that is not explained here"
        message = f"A number has {len(number[0]):,} digits, which is more than can be read."
        fix = "Put it in quotes, so that it is text, or remove it."
        return None, Fault("error", "not_json", message, fix), text.count("\n", 0, number.start())


def read_several(text: str, decoder: json.JSONDecoder = _DECODER) -> list[Any]:
    """All values of a line that holds several (or one with a comma after it); [] when it is anything else."""
    values, position = [], _after_blanks(text, 0)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict | list):
            return []
        values.append(value)
        position = _after_blanks(text, position)
    return values


def _after_blanks(text: str, position: int) -> int:
    """Where the next value begins: after blanks and at most one comma."""
    between = _BETWEEN_VALUES.match(text, position)
    return between.end() if between else position


def repeated_keys(text: str) -> list[str]:
    """The keys that occur twice in one object of `text` (one value or several); the last one counts."""
    repeated: dict[str, None] = {}

    def note_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            repeated.update((key, None) for key, count in counts.items() if count > 1)
        return value

    read_several(text, json.JSONDecoder(object_pairs_hook=note_repeats))
    return list(repeated)


_BETWEEN_VALUES = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_CLOSE = "Add what is missing at the end, usually a closing quote, ] or }. A conversation must be on one line."
_BACKSLASH = r"Write \\ for a backslash in a text."
_QUOTES = 'Write straight double quotes (") around every key and every text.'


def _has_too_many_parts(text: str) -> bool:
    return text.count("{") + text.count("[") > _MAX_BRACKETS or text.count(",") > _MAX_COMMAS


def _line_of(text: str, name: str) -> int:
    return text.count("\n", 0, max(text.find(name), 0))


def _explain(text: str, error: json.JSONDecodeError, column: int) -> Fault:
    """The parser's error as a sentence for the person who wrote the line."""
    position = error.pos
    place = f"column {error.colno + (column if error.lineno == 1 else 0)}"
    rest = text[position : position + 200].lstrip().split("\n")[0]
    near = f" (near {quoted(rest, 20)})" if rest else ""
    if error.msg == "Extra data":
        return _explain_extra(text, position, place, near)
    if not rest and not error.msg.startswith("Unterminated"):
        return Fault("error", "never_closed", "What begins on this line is never closed.", _CLOSE)
    if text.lstrip()[:1] not in ("{", "["):
        return _explain_no_json(text.lstrip())
    what, fix = _explain_inside(error.msg, text, position, rest, place)
    return Fault("error", "not_json", f"{what}{near}.", fix)


def _explain_extra(text: str, position: int, place: str, near: str) -> Fault:
    """Something follows a complete value on the line."""
    if values := read_several(text):
        if len(values) == 1:
            message = "There is a comma after the end of the object."
            return Fault("error", "comma_after_the_end", message, "Remove the comma.")
        if text[:position].rstrip(" \t").endswith("\r"):
            message = "The lines end with a lone carriage return (CR), as on very old Macs."
            return Fault("error", "old_line_ends", message, "Save the file with LF line ends.")
        message = f"There are {len(values):,} objects on this line; each must be on a line of its own."
        return Fault("error", "several_objects", message, "Put a line break between them.")
    rest = text[position:].lstrip()
    if rest[:1] in ("]", "}"):
        message = f"There is a closing {rest[0]} too many at {place}."
        return Fault("error", "not_json", message, "Remove it, or add the opening bracket that it belongs to.")
    if text.lstrip()[:1] not in ("{", "["):
        return _explain_no_json(text.lstrip())
    message = f"There is something after the end of the object at {place}{near}."
    return Fault("error", "not_json", message, "Remove it, or put it on a line of its own.")


def _explain_no_json(text: str) -> Fault:
    """The line does not begin like JSON at all."""
    if text.startswith(("#", "//", "/*")):
        return Fault("error", "not_json", "This line is a comment, which JSON does not have.", "Remove the line.")
    if text[:1] in "]},":
        message = f"This line begins with {text[0]}, the end or middle of something that is spread over lines."
        return Fault("error", "not_json", message, "Put the whole conversation on one line.")
    message = f"This line is not JSON: it begins with {quoted(text, 20)}."
    turns = '{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}'
    fix = f'A line looks like {{"messages": [{turns}]}}.'
    return Fault("error", "not_json", message, fix)


def _explain_inside(kind: str, text: str, position: int, rest: str, place: str) -> tuple[str, str]:
    """(what, fix) for an error inside an object or a list; `kind` is the parser's own message."""
    first = rest[:1]
    if rest.startswith(("//", "/*", "#")):
        return f"There is a comment at {place}, which JSON does not have", "Remove the comment."
    if kind.startswith("Unterminated string"):
        return f"The text in quotes that begins at {place} is not closed on this line", _CLOSE
    if kind.startswith("Invalid control character"):
        name = {"\t": "tab", "\0": "zero byte", "\n": "line break", "\r": "carriage return"}.get(text[position])
        fix = r"Write \n for a line break and \t for a tab inside quotes; remove other control characters."
        return f"There is a raw {name or 'control character'} inside the quotes at {place}", fix
    if kind.startswith("Invalid \\u"):
        return f"A \\u at {place} is not followed by four digits or letters a to f", _BACKSLASH
    if kind.startswith("Invalid \\"):
        return f"A backslash at {place} begins nothing that JSON knows", _BACKSLASH
    if first in ("'", "\u2018", "\u2019", "\u201c", "\u201d"):
        return f"There is a {_QUOTE_NAMES[first]} at {place} where JSON needs a straight double quote", _QUOTES
    before = text[:position].rstrip()[-1:]
    if kind.startswith("Illegal trailing comma") or (before == "," and first in ("}", "]")):
        return f"There is a comma too many before {place}", "Remove the comma before the closing bracket."
    if kind.startswith("Expecting property name"):
        return f"A key without quotes stands at {place}", _QUOTES
    if kind.startswith("Expecting ':'"):
        return f"A colon is missing before {place}", 'Write a colon between key and value: "role": "user".'
    if kind.startswith("Expecting ','"):
        return _explain_comma(before, first, place)
    if word := re.match(r"(True|False|None|undefined)\b", rest):
        return f"{word[0]} at {place} is not JSON", "Write true, false or null."
    if first in ("}", "]", ",", ":"):
        return f"A value is missing before {place}", "Add the missing text in quotes, or remove the comma or colon."
    return f"A text without quotes stands at {place}", _QUOTES


def _explain_comma(before: str, first: str, place: str) -> tuple[str, str]:
    if first in ("}", "]"):
        wrong, right = (first, "]" if first == "}" else "}")
        return f"There is a {wrong} at {place} where a {right} is missing", f"Close what is open first: write {right}."
    if before == '"' and first not in ('"', "{", "["):
        return (
            f"A comma is missing before {place}, or a quote inside the text ends it too early",
            r"Write \" for a quote inside a text, and a comma between two entries.",
        )
    return f"A comma is missing before {place}", "Write a comma between two entries."


_QUOTE_NAMES = {
    "'": "single quote",
    "\u2018": "curly quote",
    "\u2019": "curly quote",
    "\u201c": "curly quote",
    "\u201d": "curly quote",
}
