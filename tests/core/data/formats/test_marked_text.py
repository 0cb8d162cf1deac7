"""Texts with marks between their turns: cut at the marks of turns, and not at words of a turn that look like marks."""

import pytest

from nanochat_core.data.formats.marked_text import messages_of_text

TEXTS = {
    "marks without line breaks": (
        "### Human: Name a fruit.### Assistant: A plum.### Human: Another?\n### Assistant: A pear.",
        ["Name a fruit.", "A plum.", "Another?", "A pear."],
    ),
    "a line break after the first": (
        "### Human: Name a fruit.\n### Assistant: A plum.### Human: Another?### Assistant: A pear.",
        ["Name a fruit.", "A plum.", "Another?", "A pear."],
    ),
    "a mark that is spoken of": (
        "### Human: How is it marked?\n### Assistant: With ### Human: at first.",
        ["How is it marked?", "With ### Human: at first."],
    ),
    "code": (
        "User: Who runs it?\nAssistant: Write:\n  user: root\n  system: linux",
        ["Who runs it?", "Write:\n  user: root\n  system: linux"],
    ),
    "a dialogue": (
        "Human: Write a dialogue.\n\nAssistant: Here:\nUser: Hi\nBot: Hello",
        ["Write a dialogue.", "Here:\nUser: Hi\nBot: Hello"],
    ),
    "a heading": (
        "### Instruction:\nSum up.\n\n### Input:\nIt rained.\n\n### Response:\nRain.\n\n## Input: none",
        ["Sum up.", "It rained.", "Rain.\n\n## Input: none"],
    ),
    "two inputs": (
        "### Instruction: Sum up.\n### Response: Yes.\n### Instruction: Go on.\n### Input: here\n### Response: Well.",
        ["Sum up.", "Yes.", "Go on.", "here", "Well."],
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_cut_at_its_turns_alone(name):
    text, contents = TEXTS[name]
    found = messages_of_text(text)
    assert found is not None
    assert [message["content"] for message in found[1]] == contents
