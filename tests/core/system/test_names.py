"""Names are one folder's name on any system, and look like what they are."""

import pytest

from nanochat_core.system.folder_names import check_tag
from nanochat_core.system.words import for_terminal, printable


@pytest.mark.parametrize(
    ("tag", "hidden"),
    [
        ("my\u200bbakery", "U+200B"),
        ("bakery\u202egnp", "U+202E"),
        ("\u3164", "U+3164"),
        ("a\u2066b\u2069", "U+2066"),
        ("a\u00adb", "U+00AD"),
        ("a\ufe0fb", "U+FE0F"),
        ("a\u2800b", "U+2800"),
        ("a\u00a0b", "U+00A0"),
        ("a\U000e0041b", "U+E0041"),
    ],
)
def test_names_with_hidden_characters_are_refused(tag, hidden):
    with pytest.raises(ValueError, match=rf"cannot be seen \({hidden.replace('+', '[+]')}\)") as refused:
        check_tag(tag)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("tag", ["my-bakery-2", "Bäckerei", "パン屋", "مخبز", "ร้านขนมปัง", "बेकरी", "bread 🍞"])
def test_names_of_every_script_are_welcome(tag):
    assert check_tag(tag) == tag


def test_foreign_text_cannot_steer_the_terminal():
    hostile = "a\x1b]0;title\x07b\x1b[2J\x9bc\r\u202ed\ud800"
    assert printable(hostile).isprintable()
    assert for_terminal(f"one\ttwo\n{hostile}") == "one\ttwo\na]0;titleb[2Jcd"
    family = "👨\u200d👩\u200d👧 \u200fשלום"
    assert for_terminal(family) == family
