"""What nobody sees says nothing: one definition, held against Unicode's own tables."""

import sys
import unicodedata

import pytest

from nanochat_core.data.line import judge_line
from nanochat_core.system.words import SEEN, first_hidden
from tests.support.samples import assistant, line, user

_DRAWN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, *range(0xFFF9, 0xFFFC), 0x110BD, 0x110CD}
"""Signs of numbers and of the end of a verse, which Unicode counts among the characters that only format."""
_EMPTY = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x180E), 0x180F, 0x2800, 0x3164, *range(0xFE00, 0xFE10)}
"""Letters and marks by their category, and drawn as nothing."""


def test_what_is_unseen_is_what_unicode_says():
    letters = [chr(code) for code in range(sys.maxunicode + 1)]
    formless = {one for one in letters if unicodedata.category(one) in ("Cc", "Cf", "Zs", "Zl", "Zp")}
    hieroglyphs = {one for one in formless if "HIEROGLYPH" in unicodedata.name(one, "")}
    wanted = formless - hieroglyphs - set(map(chr, _DRAWN)) | set(map(chr, {*_EMPTY, 0xFFA0, *range(0xE0100, 0xE01F0)}))
    unassigned = {chr(0x2065)}  # between the marks of direction, and reserved for more of them
    assert {one for one in letters if not SEEN.match(one)} - unassigned == wanted


@pytest.mark.parametrize("unseen", ["", " \n", "\u200b\u2060", "\ufe01", "\U000e0100", "\x00\x07", "\u180b"])
def test_a_text_of_what_is_unseen_is_no_answer(unseen):
    _, faults, _ = judge_line(line(user("a"), assistant(unseen)).encode())
    assert [fault.level for fault in faults] == ["error"]


@pytest.mark.parametrize("letter", ["a", " ", "7", "☕", "\U0001f468", "ä"])
def test_what_is_seen_hides_nothing(letter):
    assert first_hidden(letter) is None
