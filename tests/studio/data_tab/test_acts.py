"""The editor's values and buttons: a key or a click from an old page never lands in another turn, and none is lost."""

import json
import re
from pathlib import Path

import pytest

from studio.data_tab import acts, editor, handlers
from studio.datasets import sessions
from tests.support.samples import GOOD, assistant, line, system, user

TALK = line(user("one"), assistant("two"), user("three"), assistant("four"))


def opened(home, *lines):
    path = home / "data" / "mine.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return handlers.pick(dict(handlers.NOWHERE), str(path))


def texts(at):
    session, row = handlers.row_of(at)
    return [message["content"] for message in json.loads(session.rows.data[row])["messages"]]


def told(at, act, turn=None, **values):
    """What the page says, of a turn of the page that is drawn at `at`."""
    shown = acts.view(at)
    name = {} if turn is None else {"name": shown["turns"][turn]["name"]}
    return {"act": act, "session": shown["session"], "row": shown["row"], **name, **values}


def typing(at, turn, text, place=0):
    """What the page sends for a key in a field of the page that is drawn at `at`."""
    shown = acts.view(at)
    field = shown["turns"][turn]["texts"][place]
    typed = {"name": field["name"], "turn": turn, "part": field["part"], "before": field["text"], "text": text}
    return {"session": shown["session"], "row": shown["row"], "texts": [typed]}


@pytest.mark.parametrize(
    ("act", "turn", "expected"),
    [
        ("up", 2, ["one", "three", "two", "four"]),
        ("down", 0, ["two", "one", "three", "four"]),
        ("insert", 0, ["one", "two", "three", "four"]),
        ("delete-turn", 1, ["one", "three", "four"]),
        ("add-turn", None, ["one", "two", "three", "four", ""]),
        ("add-system", None, ["", "one", "two", "three", "four"]),
    ],
)
def test_a_late_key_reaches_its_own_turn(home, act, turn, expected):
    at = opened(home, TALK)
    late = typing(at, 2, "THREE")  # drawn before the click, arrives after it
    after = acts.act(at, told(at, act, turn))
    answer = acts.store(late)
    assert len(answer["kept"]) == 1
    assert "THREE" in texts(after)
    assert [text for text in texts(after) if text != ""] == [
        text.replace("three", "THREE") for text in expected if text != ""
    ]


def test_a_late_key_for_a_deleted_turn_is_told(home):
    at = opened(home, TALK)
    late = typing(at, 1, "TWO")
    at = acts.act(at, told(at, "delete-turn", 1))
    answer = acts.store(late)
    assert (answer["kept"], len(answer["gone"])) == ([], 1)
    assert texts(at) == ["one", "three", "four"]


def test_a_late_key_after_undo_is_told(home):
    at = opened(home, TALK)
    acts.store(typing(at, 1, "first"))
    late = typing(at, 1, "first and second")
    handlers.undo(at)
    assert len(acts.store(late)["gone"]) == 1
    assert texts(at) == ["one", "two", "three", "four"]


def test_typing_keeps_the_names_so_that_nothing_is_drawn_over(home):
    at = opened(home, TALK)
    before = [turn["name"] for turn in acts.view(at)["turns"]]
    acts.store(typing(at, 1, "t"))
    acts.store(typing(at, 1, "tw"))
    assert [turn["name"] for turn in acts.view(at)["turns"]] == before
    session, _ = handlers.row_of(at)
    session.undo()
    assert texts(at)[1] == "two"  # a stretch of typing is one step


def test_the_second_of_two_quick_clicks_deletes_no_other_turn(home):
    at = opened(home, TALK)
    click = told(at, "delete-turn", 1)
    at = acts.act(at, click)
    with pytest.raises(ValueError, match="changed meanwhile"):
        acts.act(at, click)
    assert texts(at) == ["one", "three", "four"]


def test_a_click_on_a_conversation_that_is_not_shown_any_more_does_nothing(home):
    at = opened(home, TALK, GOOD)
    click = told(at, "delete-conversation")
    at = handlers.choose(at, 1)
    with pytest.raises(ValueError, match="Another conversation"):
        acts.act(at, click)


def test_an_act_that_the_page_cannot_say_is_refused(home):
    at = opened(home, TALK)
    with pytest.raises(ValueError, match="cannot be of 'pope'"):
        acts.act(at, told(at, "role", 0, role="pope"))


def test_parts_are_typed_in_and_deleted_by_name(home):
    at = opened(home, TALK)
    at = acts.act(at, told(at, "calculation", 1))
    acts.store(typing(at, 1, "1+1", place=1))
    late = typing(at, 1, "2", place=2)
    first = acts.view(at)["turns"][1]["texts"][0]["name"]
    at = acts.act(at, told(at, "delete-part", name=first))
    acts.store(late)
    assert texts(at)[1] == [{"type": "python", "text": "1+1"}, {"type": "python_output", "text": "2"}]


def test_after_a_restart_the_open_page_goes_on(home):
    at = opened(home, TALK)
    acts.store(typing(at, 1, "T"))
    late, click = typing(at, 1, "TWO"), told(at, "found-again")
    sessions._sessions.clear()
    late["texts"][0]["name"] = "0000-" + late["texts"][0]["name"]  # the names of another process
    assert len(acts.store(late)["kept"]) == 1
    assert len(acts.store(late)["kept"]) == 1  # sent again, by a page that was loaded before the answer came
    after = acts.act(dict(handlers.NOWHERE), click)
    assert texts(after) == ["one", "TWO", "three", "four"]


def test_a_long_conversation_is_edited_in_pages(home):
    turns = [user(f"t{number}") if number % 2 == 0 else assistant(f"t{number}") for number in range(100)]
    at = opened(home, line(system("s"), *turns))
    shown = acts.view(at)
    assert (len(shown["turns"]), shown["pages"], shown["where"]) == (acts.TURNS, 6, "Turns 1 to 20 of 101")
    at = acts.act(at, told(at, "page", page=5))
    shown = acts.view(at)
    assert [turn["turn"] for turn in shown["turns"]] == [100]
    acts.store(typing(at, 0, "the last"))
    assert texts(at)[100] == "the last"
    at = acts.act(acts.act(at, told(at, "page", page=0)), told(at, "add-turn"))
    assert acts.view(at)["turns"][-1]["turn"] == 101  # a new turn is shown
    assert handlers.choose(at, None)["turns"] == 5
    assert handlers.moved(at, row=1)["turns"] == 0


def test_what_cannot_be_shown_as_turns_is_shown_raw(home):
    at = opened(home, "{broken")
    shown = acts.view(at)
    assert (shown["turns"], shown["raw"]) == (None, "{broken")
    at = acts.act(at, told(at, "raw", text=TALK))
    assert texts(at) == ["one", "two", "three", "four"]


def test_the_page_gets_no_markup(home):
    at = opened(home, line(user("<script>alert(1)</script>"), assistant("b")))
    value = editor.drawn(at)
    assert "<" not in value
    assert json.loads(value)["turns"][0]["texts"][0]["text"] == "<script>alert(1)</script>"
    assert "<" not in editor.drawn(None)


def test_every_button_of_the_page_is_known():
    script = Path(editor.__file__).with_name("editor.js").read_text()
    said = set(re.findall(r'act: "([\w-]+)"', script)) | set(re.findall(r'on\("([\w-]+)"\)', script))
    said |= {"add-conversation", "duplicate-conversation", "delete-conversation"}
    assert said == set(acts.ACTS)
