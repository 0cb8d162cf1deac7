"""Where the words of a reply stand in what a run was trained on, against a search by hand."""

import random

import numpy as np
import pytest

from nanochat_core.rows import following, index
from nanochat_core.rows.following import same
from nanochat_core.rows.index import Index, build, split_words
from nanochat_core.rows.row import Row, Turn
from nanochat_core.rows.trace import trace, trace_in


def _rows(pairs) -> list[Row]:
    return [Row(line, (Turn("", prompt, answer),)) for line, (prompt, answer) in enumerate(pairs, 1)]


def _index(folder, rows) -> Index:
    folder.mkdir(exist_ok=True)
    build(folder, "key", rows)
    return Index(folder)


CAFE = [
    ("When do you open?", "We open at 7 am from Monday to Friday."),
    ("How early can I come?", "We open at 7 am from Monday to Friday."),
    ("Who bakes?", "Our baker is Tomas Reed, and he is in the kitchen."),
    ("Where are you?", "The cafe is in the old mill at the river."),
    ("Who are you?", "I am in the kitchen of the cafe."),
]


def test_the_longest_span_comes_first_with_its_rows(tmp_path):
    found = trace_in(_index(tmp_path / "trace", _rows(CAFE)), "mine", "Sure: our baker is Tomas Reed. We open at 7 am!")
    assert [(span.text, span.lines) for span in found.spans] == [
        ("We open at 7 am", (1, 2)),
        ("baker is Tomas Reed", (3,)),
    ]
    assert set(found.lines) == {1, 2, 3}
    assert found.to_dict() == {"spans": [{"text": span.text, "lines": list(span.lines)} for span in found.spans]}
    assert "".join(text for text, _ in found.pieces()) == found.reply
    assert found.underlined().count("<u ") == 2


def test_of_rows_with_the_same_answer_the_one_with_the_likest_question_comes_first(tmp_path):
    opened = _index(tmp_path / "trace", _rows(CAFE))
    for line, question in ((1, "When do you open?"), (2, "How early can I come?")):
        assert trace_in(opened, "mine", CAFE[0][1], question).lines[0] == line


def test_short_common_words_and_unknown_ones_are_no_spans(tmp_path):
    opened = _index(tmp_path / "trace", _rows(CAFE))
    for reply in ("It is in the bag.", "zzz qqq", "", "?!", "the the the"):
        assert not trace_in(opened, "mine", reply).spans, reply


def test_a_reply_without_words_is_refused_and_one_that_repeats_itself_is_told_once(home, tmp_path):
    for reply in ("", "  \n"):
        with pytest.raises(ValueError, match="The reply is empty"):
            trace("mine", reply)
    opened = _index(tmp_path / "trace", _rows(CAFE))
    said = trace_in(opened, "mine", "We open at 7 am. Or not: " * 500).summary().splitlines()
    assert said == ["“We open at 7 am”: lines 1 and 2 (500 times)"]


def test_no_span_crosses_from_one_row_into_the_next(tmp_path):
    opened = _index(tmp_path / "trace", _rows([("a", "one red apple"), ("b", "two green pears")]))
    assert [span.text for span in trace_in(opened, "x", "one red apple two green pears").spans] == [
        "one red apple",
        "two green pears",
    ]


def test_a_span_longer_than_the_order_knows_is_followed_to_its_end(tmp_path):
    words = [f"w{number}" for number in range(100)]
    rows = _rows([("a", " ".join(words[:60])), ("b", " ".join(words))])
    (span,) = trace_in(_index(tmp_path / "trace", rows), "x", "so " + " ".join(words) + " end").spans
    assert (span.text, span.lines) == (" ".join(words), (2,))


def _rows_of_span(texts: list[str], words: list[str], first: int, size: int) -> list[int]:
    wanted = f" {' '.join(words[first : first + size])} "
    return [line for line, text in enumerate(texts, 1) if wanted in f" {text} "]


def test_long_spans_are_what_a_search_by_hand_finds(tmp_path):
    draw = random.Random(3)
    source = [f"w{number}" for number in range(300)]
    cuts = [sorted(draw.sample(range(300), 2)) for _ in range(40)]
    texts = [" ".join(source[first:last]) for first, last in cuts if last - first > 2]
    reply = [*source[20:140], "other", *source[100:290]]
    found = trace_in(_index(tmp_path / "trace", _rows([("q", text) for text in texts])), "x", " ".join(reply))
    for span in found.spans:
        first = found.reply[: span.start].count(" ")
        rows = _rows_of_span(texts, reply, first, span.words)
        assert span.count == len(rows) > 0
        assert not _rows_of_span(texts, reply, first, span.words + 1) or first + span.words == len(reply)
    assert max(span.words for span in found.spans) > 2 * index.DEPTH


@pytest.mark.parametrize("kind", ["copied", "looping", "looping longer"])
def test_what_is_compared_of_a_long_reply_grows_with_its_length_alone(tmp_path, monkeypatch, kind):
    compared = []

    def counted(one, other):
        found = same(one, other)
        compared.append(found + 1)
        return found

    if kind == "copied":
        reply = [f"w{number}" for number in range(250)]
        texts = [" ".join([*reply[: 250 - number % 3], f"end{number}"]) for number in range(200)] + ["other"] * 50
    else:
        reply = ["one", "two", "three"] * 1000
        texts = [" ".join(reply[: 1500 if kind == "looping longer" else 3000])]
    opened = _index(tmp_path / "trace", _rows([("q", text) for text in texts]))
    monkeypatch.setattr("nanochat_core.rows.following.same", counted)
    assert trace_in(opened, "x", " ".join(reply)).spans[0].words == min(len(reply), len(texts[0].split()))
    assert sum(compared) <= 2 * following.MOST_PLACES * len(reply)  # and not once more for each of its words


def test_places_that_would_take_too_long_are_followed_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("nanochat_core.rows.following.MOST_FOLLOWED", 1)
    words = [f"w{number}" for number in range(100)]
    rows = _rows([("a", " ".join(words[:60])), ("b", " ".join(words))])
    assert trace_in(_index(tmp_path / "trace", rows), "x", " ".join(words)).spans[0].words >= 60


def test_text_without_blanks_is_found_sign_by_sign(tmp_path):
    rows = _rows([("時間は", "朝七時に開店します"), ("誰", "店主は田中です")])
    (span, *_) = trace_in(_index(tmp_path / "trace", rows), "x", "はい、朝七時に開店").spans
    assert (span.text, span.lines) == ("朝七時に開店", (1,))


def test_every_longest_match_is_what_a_search_by_hand_finds(tmp_path):
    draw = random.Random(5)
    texts = [" ".join(draw.choices("abcdef", k=draw.randint(1, 40))) for _ in range(60)]
    opened = _index(tmp_path / "trace", _rows([("q", text) for text in texts]))
    padded = [f" {text} " for text in texts]
    for _ in range(100):
        reply = draw.choices("abcdefg", k=30)
        numbers = opened.numbers(reply)
        for first in range(len(reply)):
            size, low, high = opened.longest(numbers[first:])
            expected = 0
            while first + expected < 30 and any(
                f" {' '.join(reply[first : first + expected + 1])} " in t for t in padded
            ):
                expected += 1
            assert size == expected
            wanted = f" {' '.join(reply[first : first + size])} "
            rows = [place for place, text in enumerate(padded) if wanted in text] if size else []
            assert opened.rows_at(low, high).tolist() == rows


def test_an_index_is_made_once_for_the_same_data(tmp_path):
    folder, made = tmp_path / "trace", []

    def rows():
        made.append(1)
        return _rows(CAFE)

    for key in ("one", "one", "two"):
        found = index.opened(folder, key, rows, lambda text: None)
    assert len(made) == 2
    assert found.rows == 5
    np.testing.assert_array_equal(found.lines, [1, 2, 3, 4, 5])


@pytest.mark.parametrize("rows", [[], [("", "")]])
def test_empty_data_has_an_index_too(tmp_path, rows):
    assert not trace_in(_index(tmp_path / "trace", _rows(rows)), "x", "hello there").spans


def test_words_know_where_they_stand():
    assert [(word.text, word.start, word.end) for word in split_words("It's 7 am.")] == [
        ("It's", 0, 4),
        ("7", 5, 6),
        ("am", 7, 9),
        (".", 9, 10),
    ]


def test_a_span_begins_and_ends_with_whole_words_in_any_script(tmp_path):
    opened = _index(tmp_path / "trace", _rows([("a", "राम का घर नदी के पास है"), ("b", "我们用Python编程")]))
    assert not trace_in(opened, "x", "रात").spans
    assert [span.text for span in trace_in(opened, "x", "राम का घर नदीश").spans] == ["राम का घर"]
    assert [span.text for span in trace_in(opened, "x", "他用Python语言").spans] == ["用Python"]
