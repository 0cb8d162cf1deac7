"""Exports of chats: the branch that was shown, with all that was said in it, and calls of tools as what they are."""

import json

import pytest

from nanochat_core.data.conversations import check, load_conversations
from nanochat_core.data.formats.record import read_record
from nanochat_core.data.notes import Note
from nanochat_core.data.repair.file import fix_file
from tests.support.samples import assistant, conversation, user
from tests.support.tiny import tiny_tokenizer


def chatgpt(*said):
    """An export of one talk: (role, content or text, other keys) in a row."""
    mapping = {"root": {"message": None, "parent": None}}
    for place, (role, content, keys) in enumerate(said):
        content = {"content_type": "text", "parts": [content]} if isinstance(content, str) else content
        message = {"author": {"role": role}, "content": content, "recipient": "all", **keys}
        mapping[str(place)] = {"message": message, "parent": str(place - 1) if place else "root"}
    return {"title": "a talk", "mapping": mapping, "current_node": str(len(said) - 1)}


QUESTION, ANSWER = ("user", "Is it hot?", {}), ("assistant", "Yes.", {})
CALL = (
    "assistant",
    {"content_type": "code", "language": "unknown", "text": 'search("heat")'},
    {"recipient": "browser"},
)
BROWSED = ("tool", {"content_type": "tether_browsing_display", "result": "hot"}, {})
THOUGHTS = ("assistant", {"content_type": "thoughts", "thoughts": [{"content": "I ask myself."}]}, {})
PICTURE = {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer", "size": 1}, "Hot?"]}


def test_a_call_of_a_tool_is_not_learned_as_words():
    found = read_record(chatgpt(QUESTION, CALL, BROWSED, ANSWER))
    assert found is not None
    assert [message["role"] for message in found.messages] == ["user", "tool_call", "assistant"]


@pytest.mark.parametrize(
    ("said", "words"),
    [((QUESTION, CALL, BROWSED, ANSWER), "tool calls"), ((("user", PICTURE, {}), ANSWER), "cannot see (image_asset")],
)
def test_what_cannot_be_trained_of_an_export_is_named(said, words, tmp_path):
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([chatgpt(*said), chatgpt(QUESTION, ANSWER)]))
    assert words in check(path, tiny_tokenizer()).summary()
    report = fix_file(path, tmp_path / "out.jsonl")
    assert (report.written, report.left_out) == (1, 1)
    assert words in report.summary()


def test_what_nobody_said_is_dropped_and_said():
    found = read_record(chatgpt(QUESTION, THOUGHTS, ANSWER))
    assert found is not None
    assert [message["content"] for message in found.messages] == ["Is it hot?", "Yes."]
    assert found.notes == [Note("DROPPED what stands between the messages and is none (thoughts)", matters=True)]


def turn(sender, text, **keys):
    return {"text": text, "content": [{"type": "text", "text": text}], "sender": sender, "attachments": [], **keys}


def test_a_pasted_text_belongs_to_the_question(tmp_path):
    pasted = [{"file_name": "paste.txt", "extracted_content": "The code is 4711."}]
    asked, empty = turn("human", "Which code?", attachments=pasted), turn("human", "", attachments=pasted)
    talks = [{"chat_messages": [one, turn("assistant", "4711")]} for one in (asked, empty)]
    path, out = tmp_path / "claude.json", tmp_path / "out.jsonl"
    path.write_text(json.dumps(talks))
    fix_file(path, out)
    asked = [talk["messages"][0]["content"] for talk in load_conversations(out)]
    assert asked == ["Which code?\nThe code is 4711.", "The code is 4711."]
    assert check(out, tiny_tokenizer()).verdict == "accept"


def test_an_attachment_without_a_text_is_named(tmp_path):
    path, out = tmp_path / "claude.json", tmp_path / "out.jsonl"
    asked = turn("human", "What is it?", attachments=[{"file_name": "a.png"}])
    path.write_text(json.dumps([{"chat_messages": [asked, turn("assistant", "A cat.")]}]))
    fix_file(path, out)
    assert "'attachments'" in check(out, tiny_tokenizer()).summary()


def test_of_an_edited_talk_the_last_branch_is_taken(tmp_path):
    rows = [("human", "Nme one."), ("assistant", "What?"), ("human", "Name one."), ("assistant", "A plum.")]
    turns = [turn(sender, text, uuid=str(n)) for n, (sender, text) in enumerate(rows)]
    for one, parent in zip(turns, ("root", "0", "root", "2")):
        one["parent_message_uuid"] = parent
    path, out = tmp_path / "claude.json", tmp_path / "out.jsonl"
    path.write_text(json.dumps([{"chat_messages": turns}]))
    report = fix_file(path, out)
    found = [(one["role"], str(one["content"])) for one in load_conversations(out)[0]["messages"]]
    assert found[0] == ("user", "Name one.")
    assert (len(found), "A plum." in found[1][1]) == (2, True)
    assert "DROPPED the branches" in report.summary()


def test_a_text_beside_parts_that_say_it_needs_no_word(tmp_path):
    path = tmp_path / "data.jsonl"
    answer = {**assistant([{"type": "text", "text": "We open at seven."}]), "text": "We open at seven."}
    path.write_text(json.dumps(conversation(user("When do you open?"), answer)))
    assert check(path, tiny_tokenizer()).verdict == "accept"
