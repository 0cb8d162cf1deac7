"""Names of runs: each is a folder's name on any system, and nothing else."""

import re
from pathlib import Path

from nanochat_core.system.words import first_hidden, printable

_FORBIDDEN = re.compile(r'[/\\<>:"|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices on Windows
_MOST_BYTES = 100


def check_tag(tag: str) -> str:
    """`tag` itself. Raises ValueError when it cannot be the name of one folder on every system."""
    problem = _problem(tag)
    if problem:
        raise ValueError(
            f"The output_tag {printable(repr(tag))} {problem}. Use letters, digits, '-' and '_', such as my-bakery-2."
        )
    return tag


def _problem(tag: str) -> str | None:
    if not isinstance(tag, str) or not tag.strip():
        return "is empty"
    if tag[0] in ".-" or tag[0].isspace():
        return f"begins with {tag[0]!r}"
    if tag[-1] == "." or tag[-1].isspace():
        return f"ends with {tag[-1]!r}"
    if found := _FORBIDDEN.search(tag):
        return f"contains {found[0]!r}"
    if _RESERVED.fullmatch(tag):
        return "is a reserved name on Windows"
    try:
        too_long = len(tag.encode("utf-8")) > _MOST_BYTES
    except UnicodeEncodeError:
        return "contains half a character"
    if hidden := first_hidden(tag):
        return f"contains a character that cannot be seen ({hidden})"
    return f"is longer than {_MOST_BYTES} bytes" if too_long else None


def next_free_tag(folder: Path, tag: str) -> str:
    """`tag` with the smallest number that no run in `folder` has: mine-2, mine-3, and so on."""
    stem = re.sub(r"-\d+$", "", tag)[: _MOST_BYTES - 10]
    number = 2
    while (folder / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"
