"""A handler's error is shown where the wiring says, and everything else on the page stays as it is."""

import gradio as gr
import pytest

from studio.parts.events import alerted, noted
from studio.space.access import for_visitors, is_for_visitors


class Handlers:
    """Handlers as a tab has them: methods, some of which go on for a while."""

    @for_visitors
    def answer(self, text):
        """Two outputs, or an error."""
        if not text:
            raise ValueError("Nothing <here>. Write something.")
        return "", text

    def write(self, text):
        """The same, piece by piece."""
        yield "", text[:1]
        yield self.answer(text[1:])


@pytest.fixture
def page():
    """A page with a line for errors and a box."""
    with gr.Blocks() as blocks:
        blocks.said, blocks.box = gr.HTML("before"), gr.Textbox("typed")
    return blocks


def shown(page, values):
    """What gradio makes of a handler's values for the two components."""
    return gr.blocks.convert_component_dict_to_list([page.said, page.box], values)


def test_an_error_is_a_note_and_the_other_outputs_stay(page):
    handler = noted(Handlers().answer, page.said)
    assert handler("hello") == ("", "hello")
    note, box = shown(page, handler(""))
    assert "Nothing &lt;here&gt;. Write something." in note
    assert "bad" in note
    assert box == gr.skip()


def test_an_error_between_two_pieces_is_a_note_behind_the_first(page):
    first, last = list(noted(Handlers().write, page.said)("a"))
    assert first == ("", "a")
    assert "Write something." in last[page.said]


def test_an_alert_is_an_error_of_the_page_that_the_terminal_does_not_print():
    with pytest.raises(gr.Error, match="Write something") as raised:
        alerted(Handlers().answer)("")
    assert not raised.value.print_exception


def test_what_is_marked_for_visitors_stays_marked(page):
    assert is_for_visitors(noted(Handlers().answer, page.said))
    assert not is_for_visitors(noted(Handlers().write, page.said))
