"""What the Data tab shows: everything escaped, empty states that say what to do, versions named by their runs."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.launcher import create_run
from nanochat_core.system.files import sha256_of
from nanochat_core.tokenizer.rendering import Rendering
from studio.data_tab import draw, handlers, view
from studio.data_tab.view import Measure
from studio.datasets import counting, diff
from studio.datasets.diff import difference, difference_html
from studio.datasets.importing import Imported
from studio.datasets.session import Session
from studio.datasets.sessions import get
from tests.support.samples import GOOD, assistant, line, user
from tests.support.tiny import tiny_tokenizer

EVIL = "<img src=x onerror=alert(1)>"
HOW = Measure("tiny", 64, 0.1)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """The tiny tokenizer under every name."""
    for module in (counting, view):
        monkeypatch.setattr(module, "tokenizer_of", lambda name: tiny_tokenizer())


def opened(home, *lines):
    path = home / "data" / "mine.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    at = handlers.pick(dict(handlers.NOWHERE), str(path))
    return at, get(at["session"]), path


def everything(at, session):
    draw.count(session, HOW)
    query = ("", "all", "file")
    shown = [*draw.the_list(session, at, query, HOW, None), *draw.fixing(session, "")]
    shown += [view.status(session), *draw.rest(session, at, HOW, ""), view.heading(session, at["row"])]
    return [*shown, view.row_problems(session, at["row"])]


def test_no_markup_of_the_data_reaches_the_page(home):
    evil_keys = json.dumps({EVIL: 1, "messages": [{"role": EVIL, "content": EVIL}]})
    at, session, _ = opened(home, evil_keys, f"{{{EVIL}", line(user(EVIL), assistant(EVIL)))
    session.name = EVIL
    for row in list(session.rows.order):
        for shown in everything({**at, "row": row}, session):
            if isinstance(shown, str) and shown.startswith("<"):
                assert EVIL not in shown
    session.path = None
    assert EVIL not in difference_html(difference([EVIL.encode()], [b"b"]))


def test_without_a_dataset_every_place_says_what_to_do():
    at = dict(handlers.NOWHERE)
    assert "drop a file" in view.status(None)
    tokens, overview, versions = draw.rest(None, at, HOW, "")
    assert "Pick one" in tokens
    assert "drop a file" in overview
    assert versions["choices"] == []
    assert draw.the_list(None, at, ("", "all", "file"), HOW, 0)[0]["choices"] == []


def test_the_list_goes_to_the_page_of_the_shown_conversation(home):
    lines = [line(user(f"q {number}"), assistant("a")) for number in range(60)]
    at, session, _ = opened(home, *lines)
    radio, note, previous, following, number, listed = draw.the_list(
        session, {**at, "row": 59}, ("", "all", "file"), HOW, None
    )
    assert (radio["value"], number, listed) == (59, 2, list(range(50, 60)))
    assert "51 to 60 of 60" in note
    assert (previous["interactive"], following["interactive"]) == (True, False)
    assert draw.the_list(session, {**at, "row": 59}, ("", "all", "file"), HOW, 0)[0]["value"] is None


def test_the_lists_label_follows_what_is_typed(home):
    at, session, _ = opened(home, GOOD, line(user("second"), assistant("a")))
    listed = draw.the_list(session, at, ("", "all", "file"), HOW, None)[5]
    handlers.type_text(session.id, 0, 0, None, "a new beginning")
    _, _, save, _, radio = draw.typed(session, at, listed, HOW)
    assert [label.split("\n")[0] for label, _ in radio["choices"]] == ["a new beginning", "second"]
    assert radio["value"] == 0
    assert save["interactive"]


def test_the_command_lines_remedy_is_a_button_here(home):
    _, session, _ = opened(home, line({"role": "human", "content": "a"}, assistant("b")))
    shown = view.row_problems(session, 0)
    assert "check FILE" not in shown
    assert "Fix does it for you" in shown


def test_large_datasets_are_counted_in_the_background_to_the_same_numbers(monkeypatch):
    lines = [line(user(f"three fruits {number}"), assistant("answer " * (number % 9))) for number in range(300)]
    at_once = Session("x.jsonl", Imported(list(enumerate(map(str.encode, lines), 1)), [], False))
    later = Session("x.jsonl", Imported(list(enumerate(map(str.encode, lines), 1)), [], False))
    counting.counter_of(at_once).start(at_once, "tiny", 64)
    monkeypatch.setattr(counting, "AT_ONCE", 10)
    counting.counter_of(later).start(later, "tiny", 64)
    counting.counter_of(later).wait()
    assert counting.uncounted(later.rows) == []
    assert later.rows.tokens == at_once.rows.tokens
    assert later.rows.trained == at_once.rows.trained
    counting.counter_of(later).start(later, "tiny", 8)  # another length: all anew
    counting.counter_of(later).wait()
    assert max(later.rows.trained) < max(at_once.rows.trained)


def session_of(lines):
    return Session("x.jsonl", Imported(list(enumerate(map(str.encode, lines), 1)), [], False))


def counted(session, max_seq_len=64):
    counter = counting.counter_of(session)
    counter.start(session, "tiny", max_seq_len)
    counter.wait()


def is_free(lock):
    """Whether another thread could take it now."""
    with ThreadPoolExecutor(1) as other:
        taken = other.submit(lock.acquire, blocking=False).result()
        if taken:
            other.submit(lock.release).result()
    return taken


@pytest.mark.parametrize("at_once", [0, 100])
def test_nobody_waits_for_the_tokenizer(monkeypatch, at_once):
    session, free, ids = session_of([GOOD, line(user("a"), assistant("long " * 90))]), [], Rendering.ids
    monkeypatch.setattr(counting, "AT_ONCE", at_once)
    monkeypatch.setattr(Rendering, "ids", lambda *given: free.append(is_free(session.lock)) or ids(*given))
    counted(session)
    assert free == [True]
    assert counting.uncounted(session.rows) == []
    assert list(session.rows.length_faults) == [1]


@pytest.mark.parametrize("at_once", [0, 100])
def test_a_row_that_changes_while_it_is_counted_is_counted_again(monkeypatch, at_once):
    session, ids = session_of([GOOD, GOOD]), Rendering.ids

    def changed_meanwhile(*given):
        session.set_line(1, line(user("a"), assistant("long " * 90)).encode(), "typing")
        return ids(*given)

    monkeypatch.setattr(counting, "AT_ONCE", at_once)
    with monkeypatch.context() as patch:
        patch.setattr(Rendering, "ids", changed_meanwhile)
        counted(session)
    assert counting.uncounted(session.rows) == [1]
    counted(session)
    assert session.rows.tokens[1] > 64


def test_another_length_while_rows_are_counted_makes_what_was_found_void(monkeypatch):
    lines = [line(user("a"), assistant("long " * 90))]
    expected, session, ids = session_of(lines), session_of(lines), Rendering.ids
    counted(expected, 8)

    def changed_meanwhile(*given):
        with monkeypatch.context() as patch:
            patch.setattr(Rendering, "ids", ids)
            counted(session, 8)
        return ids(*given)

    monkeypatch.setattr(Rendering, "ids", changed_meanwhile)
    counted(session, 64)
    assert session.rows.trained == expected.rows.trained
    assert session.rows.length_faults == expected.rows.length_faults


def test_few_bytes_are_counted_at_a_time(monkeypatch):
    short, long = line(user("a"), assistant("b")), line(user("a"), assistant("b" * 500))
    together, ids = [], Rendering.ids
    monkeypatch.setattr(counting, "_CHUNK", 3)
    monkeypatch.setattr(counting, "_CHUNK_BYTES", 500)
    monkeypatch.setattr(Rendering, "ids", lambda *given: together.append(len(given[1])) or ids(*given))
    session = session_of([short, long, long, *[short] * 5, long])
    counted(session)
    assert together == [1, 1, 1, 3, 2, 1]
    assert counting.uncounted(session.rows) == []


def test_many_bytes_are_counted_in_the_background(monkeypatch):
    monkeypatch.setattr(counting, "BYTES_AT_ONCE", 300)
    large, small = session_of([GOOD] * 20), session_of([GOOD])
    counted(large)
    counted(small)
    assert counting.counter_of(large)._thread is not None
    assert counting.counter_of(small)._thread is None


def test_a_version_is_named_by_the_run_that_it_trained(home):
    at, session, path = opened(home, GOOD, GOOD)
    run = create_run(FinetuneConfig(data_path=str(path), output_tag="first", model_tag="starter"))
    assert run.record()["data"]["sha256"] == sha256_of(path)
    handlers.type_text(session.id, 0, 1, None, "changed")
    handlers.save(at)
    label, version = view.version_choices(session)[0]
    assert label.endswith("trained: first")
    shown = view.compare(session, version)
    assert "1 line added, 1 line removed" in shown
    assert "changed" in shown
    assert view.compare(session, "/etc/passwd") == view.NO_VERSION


@pytest.mark.parametrize(
    ("old", "new", "removed", "added"),
    [
        ([b"a", b"b"], [b"b", b"a"], [], []),
        ([b"a"], [b"a", b"a"], [], [b"a"]),
        ([b"a", b"a"], [b"a"], [b"a"], []),
        ([b"a", b"b"], [b"a", b"c"], [b"b"], [b"c"]),
        ([], [], [], []),
    ],
)
def test_difference(old, new, removed, added):
    found = difference(old, new)
    assert (found.removed, found.added) == (removed, added)


def test_long_differences_are_cut():
    drawn = diff.difference_html(difference([], [b"%d" % number for number in range(100)]))
    assert drawn.count('class="came"') == diff.SHOWN
    assert "60 lines more" in drawn


def test_another_tab_asks_for_a_line(home):
    other = line(user("one"), assistant("two"))
    _, _, path = opened(home, GOOD, other, GOOD)
    at = handlers.open_line(dict(handlers.NOWHERE), [str(path), "2", "1"])
    session, row = handlers.row_of(at)
    assert session.rows.data[row] == other.encode()
    assert handlers.open_line(at, []) == at
    with pytest.raises(ValueError, match="no line 9 any more"):
        handlers.open_line(at, [str(path), "9", "2"])
