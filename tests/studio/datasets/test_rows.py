"""An opened dataset says of each line what `check` says of the file; search, sort and pages find what is there."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat_core.data import chunk
from nanochat_core.data import length as conversation_length
from nanochat_core.data.conversations import check
from nanochat_core.data.report import Fault
from nanochat_core.data.tokens.plan import split
from nanochat_core.tokenizer import rendering
from nanochat_core.tokenizer.rendering import Rendering, render
from nanochat_core.tokenizer.tokenizer import Tokenizer
from studio.data_tab.overview import histogram, overview, overview_html
from studio.datasets import index
from studio.datasets import lengths as data_lengths
from studio.datasets.index import Query, find, page
from studio.datasets.lengths import Length, lengths
from studio.datasets.problems import count_errors, count_kinds, find_problems, rows_with
from studio.datasets.rows import UNKNOWN, Rows
from tests.support.samples import GOOD, assistant, line, system, user
from tests.support.tiny import tiny_tokenizer

BAD = [
    '{"messages": "x',
    "not json",
    "null",
    "[]",
    '{"messages": []}',
    line(user("hi")),
    line(assistant("yo")),
    line(user("hi"), {"role": "gpt", "content": "yo"}),
    line(user("hi"), assistant(5)),
    line(user("hi"), assistant("")),
    json.dumps({"messages": [user("a"), assistant("b")], "weight": 1}),
    '{"prompt": "a", "completion": "b"}',
    line(user("a"), assistant([{"type": "python", "text": "1+1"}])),
    line(user("\ud800"), assistant("b")),
    line(user("long " * 60), assistant("answer")),
    line(user("a"), assistant("long " * 60)),
    line(system("Be kind."), user("a"), assistant("b")),
    GOOD,
]


def rows_of(lines, tokenizer=None, max_seq_len=64):
    rows = Rows((number, text.encode()) for number, text in enumerate(lines, 1))
    counted = [row for row in rows.order if not rows.is_faulty(row)]
    found = lengths([rows.data[row] for row in counted], Rendering(tokenizer or tiny_tokenizer()), max_seq_len)
    for row, length in zip(counted, found, strict=True):
        rows.note_length(row, rows.data[row], length)
    return rows


@given(st.lists(st.sampled_from(BAD), min_size=1, max_size=12))
def test_the_problems_are_those_of_check(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("data") / "x.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    report = check(path, tiny_tokenizer(), 64)
    rows = rows_of(lines)
    found = {(rows.line[problem.row], problem.fault.level, problem.fault.kind) for problem in find_problems(rows)}
    expected = {(problem.line, problem.level, problem.kind) for problem in report.problems}
    assert found == expected
    assert sum(not rows.is_faulty(row) for row in rows.order) >= report.conversations
    assert (count_errors(rows) == 0) == (report.verdict != "reject" or (report.conversations == 0 and not found))


@given(st.lists(st.sampled_from(BAD), min_size=1, max_size=12))
def test_kinds_are_counted_as_listed(lines):
    rows = rows_of(lines)
    listed = [problem.fault.kind for problem in find_problems(rows)]
    assert count_kinds(rows) == {kind: listed.count(kind) for kind in set(listed)}
    for kind in set(listed):
        assert rows_with(rows, kind) == [
            row for row in rows.order if any(p.row == row for p in find_problems(rows, kind))
        ]


def test_tokens_are_those_of_the_training():
    lines = [GOOD, line(user("three fruits"), assistant("long " * 80)), line(user("long " * 80), assistant("x"))]
    rows = rows_of(lines)
    examples = render([json.loads(text) for text in lines], tiny_tokenizer(), 64)
    assert [rows.trained[row] for row in rows.order] == [example.supervised for example in examples]
    assert [min(rows.tokens[row], 64) for row in rows.order] == [len(example.ids) for example in examples]


def test_a_long_conversation_is_tokenized_once_and_said_as_check_says_it(tmp_path, monkeypatch):
    for module in (data_lengths, chunk, rendering):
        monkeypatch.setattr(module, "LONGEST_IN_A_BATCH", 3_000)
    lines = [line(user("a"), assistant("long " * count), user("b"), assistant("c")) for count in (10, 90, 500, 9000)]
    lines += [line(user("long " * 90), assistant("a")), line(user("a"), assistant("blanks" + " " * 600_000))]
    monkeypatch.setattr(conversation_length, "COUNTED_CHARACTERS", 20_000)
    alone, render = [], Tokenizer.render_conversation

    def noted(self, messages, max_tokens):
        alone.append(messages)
        return render(self, messages, max_tokens)

    monkeypatch.setattr(Tokenizer, "render_conversation", noted)
    rows = rows_of(lines)
    assert min(len(str(messages)) for messages in alone) > 2_000
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    problems = {problem.line: problem for problem in check(path, tiny_tokenizer(), 64).problems}
    assert len(problems) == 5
    assert "more than" in problems[4].message
    assert {row + 1 for row in rows.length_faults} == problems.keys()
    for row, fault in rows.length_faults.items():
        expected = problems[row + 1]
        assert (fault.level, fault.kind, fault.fix) == (expected.level, expected.kind, expected.fix)
        assert fault.message.replace("Message 2: ", "") == expected.message


def test_a_length_that_came_too_late_is_not_the_rows():
    rows = rows_of([GOOD])
    late = Length(999, 9, Fault("warning", "too_long", "", ""))
    before = rows.data[0]
    rows.replace(0, line(user("another"), assistant("text")).encode())
    rows.note_length(0, before, late)
    assert (rows.tokens[0], rows.length_faults) == (UNKNOWN, {})


def sample():
    return rows_of(
        [
            line(user("Where is the BAKERY?"), assistant("Ächtung street")),
            line(user("one"), assistant("two"), user("three"), assistant("four bakery")),
            "{broken",
            GOOD,
            GOOD,
        ]
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), [0, 1, 2, 3, 4]),
        (Query("bakery"), [0, 1]),
        (Query("äCHTUNG"), [0]),
        (Query("broken"), [2]),
        (Query("nowhere"), []),
        (Query(show="errors"), [2]),
        (Query(show="problems"), [2, 4]),
        (Query(show="repeated"), [4]),
        (Query(show="changed"), [1]),
        (Query(show="cut"), []),
        (Query(sort="turns"), [1, 0, 3, 4, 2]),
        (Query(sort="-turns"), [2, 0, 3, 4, 1]),
        (Query(sort="problems"), [2, 4, 0, 1, 3]),
        (Query("bakery", sort="tokens"), [0, 1]),
    ],
)
def test_find(query, expected):
    assert find(sample(), query, {1}, 64) == expected


def test_sorting_by_tokens_before_they_are_counted_goes_by_size():
    rows = Rows([(1, GOOD.encode()), (2, line(user("a " * 50), assistant("b")).encode())])
    assert rows.tokens[0] == UNKNOWN
    assert find(rows, Query(sort="tokens"), set(), 64) == [1, 0]


def test_pages():
    rows = rows_of([line(user(f"question {number}"), assistant("x")) for number in range(60)])
    found = find(rows, Query(), set(), 64)
    assert [len(page(rows, found, number).rows) for number in (0, 1, 2)] == [25, 25, 10]
    assert page(rows, found, 99).number == 2
    assert page(rows, found, -5).number == 0
    assert page(rows, [], 0).pages == 1
    assert page(rows, found, 1).rows[0][1].startswith("question 25\nline 26 · 2 turns · ")


def test_label_of_a_faulty_line_shows_the_line_and_its_problem():
    label = index.page(sample(), [2], 0).rows[0][1]
    assert label == "{broken\nline 3 · error · 1 problem"


@pytest.mark.parametrize("count", [2, 3, 10, 47])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_split_is_the_trainings(count, share):
    lines = [line(user(f"q {number}"), assistant("a")) for number in range(count)]
    seen = overview(rows_of(lines), 64, share)
    train, validation = split(render([json.loads(text) for text in lines], tiny_tokenizer(), 64), share)
    assert (seen.train, seen.validation) == (len(train), len(validation))


def test_overview_finds_a_repetition_across_the_split():
    lines = [line(user(f"q {number}"), assistant("a")) for number in range(9)]
    validating = overview(rows_of([*lines, lines[0]]), 64, 0.1).validating[0]
    other = 1 + (validating == 1)
    assert overview(rows_of([*lines, lines[validating]]), 64, 0.1).straddling == 1
    assert overview(rows_of([*lines, lines[other]]), 64, 0.1).straddling == 0
    assert "training part" in overview_html(rows_of([*lines, lines[validating]]), 64, 0.1)


def test_overview_counts_what_is_cut_and_useless():
    seen = overview(rows_of([GOOD, line(user("long " * 80), assistant("x")), "{"]), 64, 0.1)
    assert (seen.rows, seen.faulty, seen.cut_rows, seen.useless) == (3, 1, 1, 1)
    assert seen.cut > 0
    assert overview(Rows(), 64, 0.1).rows == 0


def test_histogram_marks_where_it_cuts():
    drawn = histogram(np.array([10, 20, 900]), 512)
    assert drawn.count("<rect") == 2
    assert "cut here" in drawn
    assert "cut here" not in histogram(np.array([10, 20]), 512)
    assert histogram(np.array([], dtype=int), 512) == ""
