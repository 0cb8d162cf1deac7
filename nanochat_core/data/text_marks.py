"""What texts may hold that is no word of theirs: marks of pictures and of templates, letters in the wrong encoding."""

import re
from collections.abc import Iterable, Iterator

from nanochat_core.data.formats.names import MEDIA_MARKS, TEMPLATE_MARKS
from nanochat_core.data.keys import media_fault
from nanochat_core.data.report import Fault

_MARKS = re.compile("|".join(re.escape(mark) for mark in (*MEDIA_MARKS, *TEMPLATE_MARKS) if mark.startswith("<")))
"""All begin alike, which makes the search quick."""
_OTHERS = ("INST]", "Ã", "â€", "\\u00c3", "\\u00C3", "\\u00e2\\u20ac", "\\u00E2\\u20AC")
"""The marks that begin otherwise, and how misread letters begin, also as escapes."""
_FOREIGN = re.compile(r"[^\x00-\x7f]{2,}")


def may_hold_marks(line: str) -> bool:
    """Whether the texts in a line of JSON have to be looked at: the quick look at nearly every line."""
    return ("<" in line and _MARKS.search(line) is not None) or any(mark in line for mark in _OTHERS)


def mark_warnings(texts: Iterable[str]) -> Iterator[Fault]:
    """A warning for each kind of mark in the texts of a conversation, said once for the whole file."""
    texts = list(texts)
    for mark in MEDIA_MARKS:
        if any(mark in text for text in texts):
            yield media_fault(mark)
    if found := [mark for mark in TEMPLATE_MARKS if any(mark in text for text in texts)]:
        message = f"The texts hold marks of a template for chats ({found[0]}), which would be learned and read as text."
        fix = "Remove them, unless they are what is spoken of: nanochat marks the turns itself."
        yield Fault("warning", "template_mark", message, fix, once=True)
    if any(map(_is_misread, texts)):
        message = "The texts hold letters that were read in the wrong encoding, such as 'Ã¶' for 'ö'."
        fix = "Export them again from where they come, as UTF-8; the Python package ftfy repairs most of what is left."
        yield Fault("warning", "misread_letters", message, fix, once=True)


def _is_misread(text: str) -> bool:
    """Whether a text holds bytes of UTF-8 that were read as Windows-1252."""
    if "Ã" not in text and "â€" not in text:
        return False
    return any(_is_utf8(run[0]) for run in _FOREIGN.finditer(text) if "Ã" in run[0] or "â€" in run[0])


def _is_utf8(run: str) -> bool:
    try:
        run.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return False
    return True
