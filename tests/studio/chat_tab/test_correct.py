"""A reply that is corrected in the Chat tab becomes a row of a dataset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat_core.data.conversations import load_conversations
from studio.chat_tab import correct
from studio.chat_tab.handlers import pick
from studio.chat_tab.state import Reply
from studio.datasets import files
from tests.support.chatting import ID, a_chat


def test_two_clicks_from_a_bad_reply_to_a_row(home):
    a_chat()
    panel, title, text, which, menu, earlier, _ = correct.begin(ID, 0, None, "")
    assert panel.visible
    assert "2*3?" in title
    assert text.value == "<|python_start|>2*3<|python_end|><|output_start|>6<|output_end|>7"
    assert (which[:2], menu.value, earlier.visible) == ([0, 1], correct.NEW, True)
    _, note, path = correct.finish(ID, which, text.value[:-1] + "6", menu.value, True)
    assert "Added to corrections.jsonl as line 1" in note
    [row] = load_conversations(path)
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert row["messages"][-1]["content"][-1] == {"type": "text", "text": "6"}
    assert row["messages"][-1]["content"][:2] == a_chat().turns[1].replies[0].parts[:2]
    assert row["messages"][-1]["rejected"] == a_chat().turns[1].replies[0].parts


def test_a_correction_is_not_saved_under_another_message(home):
    a_chat().save()
    *_, which, _, _, _ = correct.begin(ID, 0, None, "")
    chat = a_chat()
    chat.turns[1].user = "Who are you?"  # asked again otherwise, in this page or another
    chat.save()
    with pytest.raises(ValueError, match=r"The chat has changed since.* Copy your text"):
        correct.finish(ID, which, "6", correct.NEW, True)
    assert not files.list_datasets() or all(one.is_shipped for one in files.list_datasets())


def test_the_models_own_reply_stays_beside_another_one_only():
    chat = a_chat()
    said = chat.turns[0].replies[0].content
    assert correct.corrected(chat, 0, 0, "Other", with_earlier=True)["messages"][-1]["rejected"] == said
    same = correct.corrected(chat, 0, 0, f" {correct.as_text(said)}\n", with_earlier=True)
    assert "rejected" not in same["messages"][-1]


def test_without_the_messages_before_it(home):
    row = correct.corrected(a_chat(), 1, 1, "6", with_earlier=False)
    assert [message["content"] for message in row["messages"]] == ["Be kind.", "2*3?", "6"]


def test_the_rest_of_the_file_stays_and_its_old_version_is_kept(home):
    path = files.data_dir() / "mine.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"broken\r\n{"messages": []}')
    row = correct.corrected(a_chat(), 0, 0, "Eins", with_earlier=True)
    assert correct.add(str(path), row) == (path, 3)
    assert path.read_bytes().startswith(b'{"broken\r\n{"messages": []}\n{"messages": [{"role": "system"')
    assert [version.path.read_bytes() for version in files.versions(path)] == [b'{"broken\r\n{"messages": []}']


@pytest.mark.parametrize("value", ["/etc/passwd", "gone.jsonl", "example"])
def test_no_other_file_is_written_to(home, value):
    shipped = next(one for one in files.list_datasets() if one.is_shipped)
    target = str(shipped.path) if value == "example" else value
    before = shipped.path.read_bytes()
    with pytest.raises(ValueError, match=r"There is no dataset|stays as it is"):
        correct.add(target, correct.corrected(a_chat(), 0, 0, "Eins", with_earlier=True))
    assert shipped.path.read_bytes() == before


def test_a_file_that_is_one_array_is_refused(home):
    path = files.data_dir() / "array.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("[]")
    with pytest.raises(ValueError, match="one JSON array"):
        correct.add(str(path), correct.corrected(a_chat(), 0, 0, "Eins", with_earlier=True))


def test_what_cannot_be_a_row_is_a_sentence(home):
    chat = a_chat()
    chat.turns[0].replies = [Reply("m"), None]
    with pytest.raises(ValueError, match="leave the earlier turns out"):
        correct.corrected(chat, 0, 1, "6", with_earlier=True)
    with pytest.raises(ValueError, match="is empty"):
        correct.corrected(chat, 0, 1, "  ", with_earlier=True)
    with pytest.raises(ValueError, match="no reply to correct yet"):
        correct.begin("f" * 16, 0, None, "")


def test_a_click_picks_the_turn_of_a_message(home):
    a_chat()
    assert [pick(ID, 0, index)[0] for index in range(5)] == [0, 0, 1, 1, 1]
    assert pick(ID, 0, 99) == (None, "")


@given(st.lists(st.tuples(st.sampled_from(["text", "python", "python_output"]), st.text("ab\n", min_size=1))))
def test_a_reply_as_text_and_back(pieces):
    parts = [{"type": kind, "text": text} for kind, text in pieces]
    merged: list[dict] = []
    for part in parts:
        if merged and part["type"] == merged[-1]["type"] == "text":
            merged[-1]["text"] += part["text"]
        else:
            merged.append(dict(part))
    content = correct.as_content(correct.as_text(parts))
    assert content == (merged if any(part["type"] != "text" for part in merged) else "".join(p["text"] for p in parts))
