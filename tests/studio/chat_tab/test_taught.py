"""Under a finetuned model's reply: what stands in its rows, and the way to them."""

import pytest

from nanochat_core import FinetuneConfig
from nanochat_core.data.line import to_line
from nanochat_core.rows.row import row_of
from nanochat_core.rows.trace import Span, Trace
from nanochat_core.runs import row_losses
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.snapshot import keep_data
from studio.chat_tab import taught
from studio.chat_tab.state import Chat, Reply, Turn
from studio.datasets.files import data_dir
from tests.support.planted import talk

TALKS = [
    talk("When do you open?", "We open at 7 am from Monday to Friday."),
    talk("Who bakes <here>?", "Our baker is Tomas Reed."),
    talk("Who validates?", "Our baker is Tomas Reed and nobody else."),
]


@pytest.fixture
def run(home, monkeypatch):
    """A run that was trained on the first two rows; it is known as a model by its label."""
    path = data_dir() / "mine.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(map(to_line, TALKS)))
    made = create_run(FinetuneConfig(str(path), model_tag="starter", output_tag="mine"))
    row_losses.begin(made.rows_file, 3, [2])
    row_losses.note(made.rows_file, 1, [(0, 3.0, 3), (1, 2.0, 2)])
    assert keep_data(made, path) is None
    choices = [("starter", "starter@4064"), ("mine: last (step 1)", "finetuned/mine@1")]
    monkeypatch.setattr(taught, "all_choices", lambda: choices)
    return made


def _chat(*replies: tuple[str, str]) -> Chat:
    chat = Chat(Chat.new_id())
    for model, text in replies:
        reply = Reply(model, [{"type": "text", "text": text}], is_written=True)
        chat.turns.append(Turn("When do you open?", [reply, None]))
    chat.save()
    return chat


def test_spans_are_buttons_that_show_their_rows(run):
    page = taught.shown(_chat(("mine: last (step 1)", "Yes: our baker is Tomas Reed <b>!")).id, 0, None)
    assert '<button type="button" data-span="0" aria-expanded="false" aria-controls="taught-0-0">' in page
    assert ">baker is Tomas Reed</button>" in page
    assert 'id="taught-0-0" class="taught-rows" hidden' in page
    assert 'data-tag="mine" data-line="2">Open line 2</button>' in page
    assert "Who bakes &lt;here&gt;?" in page
    assert "&lt;b&gt;" in page
    assert "Open line 3" not in page  # it validates, and taught nothing


def test_of_a_row_with_several_answers_the_one_that_holds_the_words_is_shown(run):
    said = talk("Who  bakes?", "Our baker  is Tomas Reed.")["messages"] + talk("And when?", "At night.")["messages"]
    rows = {2: row_of(2, said)}
    span = Span("baker is Tomas Reed", 0, 19, (2,), 1, 4, 2.0)
    page = taught.html_of(Trace(span.text, (span,), (2,), "mine"), 0, lambda tag, lines: rows)
    assert "Our baker  is Tomas Reed." in page
    assert "At night." not in page


def test_nothing_is_said_of_a_base_model_nor_of_an_empty_chat(run):
    assert taught.shown(_chat(("starter", "Our baker is Tomas Reed.")).id, 0, None) == ""
    assert taught.shown(_chat().id, 0, None) == ""
    assert taught.shown("", 0, None) == ""
    assert taught.shown(_chat(("mine: last (step 1)", "Our baker.")).id, 1, None) == ""


def test_a_reply_of_nobodys_words_says_so(run):
    page = taught.shown(_chat(("mine: last (step 1)", "Bananas grow slowly.")).id, 0, None)
    assert "Nothing of this stands word for word in the rows of mine." in page


def test_the_reply_that_was_clicked_on_is_the_one_that_is_traced(run):
    chat = _chat(("mine: last (step 1)", "We open at 7 am."), ("mine: last (step 1)", "Our baker is Tomas Reed."))
    assert "Open line 1<" in taught.shown(chat.id, 0, 0)
    assert "Open line 2<" in taught.shown(chat.id, 0, None)


def test_a_row_is_wished_for_where_it_stands_today(run, monkeypatch):
    path, said = data_dir() / "mine.jsonl", []
    monkeypatch.setattr(taught.gr, "Info", said.append)
    path.write_bytes(b"".join(map(to_line, [talk("New?", "Yes."), *TALKS])))
    assert taught.row_wish("mine", 2)[:2] == [str(path), "3"]
    assert not said
    path.write_bytes(b"".join(map(to_line, [TALKS[0], talk("Who bakes?", "Anna.")])))
    assert taught.row_wish("mine", 2)[:2] == [str(path), "2"]
    assert "has changed since 'mine' was trained" in said[0]
    path.write_bytes(to_line(TALKS[0]))
    with pytest.raises(ValueError, match="not in mine"):
        taught.row_wish("mine", 2)
    path.unlink()
    with pytest.raises(ValueError):
        taught.row_wish("mine", 2)
