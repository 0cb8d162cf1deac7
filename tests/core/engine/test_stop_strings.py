"""Stop strings: however the text is cut into pieces, what shows is the text before the first of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat_core.engine.row import StopStrings


def shown(pieces, stops):
    filtered = StopStrings(stops)
    text = "".join(map(filtered.take, pieces))
    return text if filtered.found else text + filtered.finish()


def expected(text, stops):
    """Character by character: the text ends where the stop string begins that is complete first."""
    for end in range(1, len(text) + 1):
        begins = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if begins:
            return text[: min(begins)]
    return text


few = st.text(alphabet="ab\n", max_size=12)


@given(st.lists(few, max_size=6), st.lists(few.filter(bool), max_size=4))
def test_any_pieces_show_the_text_before_the_first_stop_string(pieces, stops):
    assert shown(pieces, tuple(stops)) == expected("".join(pieces), stops)


@pytest.mark.parametrize(
    ("pieces", "stops", "text"),
    [
        (["one", " tw", "o three"], (" two",), "one"),
        (["one", " tw", "in"], (" two",), "one twin"),
        (["aab", "aabc"], ("aabc",), "aab"),
        (["abc"], ("c", "abc"), ""),
        (["x\n", "\n", "y"], ("\n\n",), "x"),
        (["no end"], (), "no end"),
    ],
)
def test_examples(pieces, stops, text):
    assert shown(pieces, stops) == text


def test_nothing_waits_longer_than_it_must():
    filtered = StopStrings(("END",))
    assert [filtered.take(piece) for piece in ("a", "bE", "N", "x", "E")] == ["a", "b", "", "ENx", ""]
    assert filtered.finish() == "E"


def test_nothing_shows_after_a_stop_string():
    filtered = StopStrings(("END",))
    assert [filtered.take(piece) for piece in ("aEND b", "c")] == ["a", ""]
    assert filtered.found
    assert filtered.finish() == ""
