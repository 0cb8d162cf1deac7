"""An answer that is only the sign of a choice, or the name of the better answer, is never trained as words."""

import json

import pytest

from nanochat_core.data.conversations import check, load_conversations
from nanochat_core.data.formats.record import import_record
from nanochat_core.data.repair.file import fix_file
from nanochat_core.data.report import REPAIR
from tests.support.samples import GOOD, assistant, conversation, user
from tests.support.tiny import tiny_tokenizer

CITIES = {"A": "Rome", "B": "Paris", "C": "Oslo"}
SIGNS = [
    {"question": "What is France's capital?", **CITIES, "answer": "B"},
    {"question": "What is France's capital?", "choices": ["Rome", "Paris"], "answer": 1},
    {"question": "What is France's capital?", "options": {"a": "Rome", "b": "Paris"}, "answer": "(b)"},
    {"prompt": "What is France's capital?", "option_1": "Rome", "option_2": "Paris", "completion": "2."},
]
VERDICTS = [
    {"prompt": "Name a fruit.", "response_a": "A plum.", "response_b": "A stone.", "winner": "response_a"},
    {"prompt": "Name a fruit.", "response_a": "A plum.", "response_b": "A stone.", "winner": "tie"},
    {"instruction": "Name a fruit.", "output_1": "A plum.", "output_2": "A stone.", "preferred": "1"},
    {**conversation(user("Name a fruit.")), "answer1": "A plum.", "answer2": "A stone.", "chosen": "answer2"},
]
ANSWERS = [
    ({"question": "Which letter comes first?", "answer": "A"}, "A"),
    ({"question": "What is 1 + 3?", "id": "7", "idx": 7, "answer": "4"}, "4"),
    ({"question": "What is 1 + 3?", "options": ["3", "4"], "answer": "4"}, "4"),
    ({"question": "Which?", "choices": ["Rome", "Paris"], "answer": "Paris"}, "Paris"),
    ({"prompt": "Name a fruit.", "chosen": "Plum", "rejected": "Stone"}, "Plum"),
    ({"prompt": "Name one.", "chosen": "Plum", "rejected": "Stone", "model_a": "x", "model_b": "y"}, "Plum"),
    ({"prompt": "Which? A. Rome B. Oslo", "choices": ["Rome", "Oslo"], "completion": "B"}, "B"),
    ({"question": "Which? (A) Rome (B) Oslo", "A": "Rome", "B": "Oslo", "answer": "(B)"}, "(B)"),
]


@pytest.mark.parametrize("record", SIGNS + VERDICTS, ids=str)
def test_a_sign_is_refused_with_the_keys_that_hold_the_words(record, tmp_path):
    path, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    path.write_text(f"{json.dumps(record)}\n{GOOD}\n")
    said = [problem for problem in check(path, tiny_tokenizer()).problems if "only " in problem.message]
    assert any("names one of the choices" in one.message or "answer is better" in one.message for one in said)
    assert not any(REPAIR in one.fix for one in said)
    assert (fix_file(path, out).left_out, load_conversations(out)) == (1, [json.loads(GOOD)])


@pytest.mark.parametrize(("record", "answer"), ANSWERS, ids=str)
def test_a_short_answer_is_an_answer(record, answer):
    assert import_record(record)["messages"][-1]["content"] == answer


def test_columns_of_choices_are_refused_row_by_row(tmp_path):
    path = tmp_path / "quiz.csv"
    path.write_text("question,A,B,answer\nThe capital of France?,Rome,Paris,B\n")
    with pytest.raises(ValueError, match=r'The "answer" \(B\) only names one of the choices'):
        fix_file(path, tmp_path / "out.jsonl")


ODD_MIXES = [
    ({"user": "ann", "message": "Are you open?", "reply": "Yes."}, "Are you open?", "Yes.", ""),
    ({"user": "u17", "input": "Are you open?", "output": "Yes."}, "Are you open?", "Yes.", ""),
    ({"user": "Are you open?", "assistant": "Yes."}, "Are you open?", "Yes.", ""),
    ({"instruction": "Translate.", "question": "Haus", "answer": "house"}, "Translate.\n\nHaus", "house", "below"),
    ({"instruction": "Is it kind?", "text": "Thank you", "output": "yes"}, "Is it kind?\n\nThank you", "yes", "below"),
    ({"instruction": "Go on.", "text": "### Task: Go on.\nWell", "output": "Well"}, "Go on.", "Well", ""),
    ({"instruction": "Name one.", "input": "nan", "output": "A plum."}, "Name one.", "A plum.", "no text"),
    (
        {"prompt": "Answer: what  is it?", "question": "What is it?", "response": "A cat."},
        "Answer: what  is it?",
        "A cat.",
        "",
    ),
    ({"problem": "What is 2 * 3?", "solution": "Two threes.", "answer": "6"}, "What is 2 * 3?", "6", '"solution"'),
    ({"question": "Which?", "choices": ["Rome", "Oslo"], "answer": "Oslo"}, "Which?", "Oslo", '"choices"'),
]


@pytest.mark.parametrize(("record", "question", "answer", "note"), ODD_MIXES, ids=str)
def test_odd_mixes_of_columns_ask_what_was_asked_and_say_what_is_left(record, question, answer, note, tmp_path):
    path, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    path.write_text(json.dumps(record))
    done = fix_file(path, out).done
    assert load_conversations(out) == [conversation(user(question), assistant(answer))]
    assert note in " ".join(done)
    assert note or len(done) == 1
