"""Marks of an older API at the ends of texts are said once; ordinary texts are left in peace."""

import pytest

from nanochat_core.data.conversations import check
from tests.support.samples import assistant, line, user
from tests.support.tiny import tiny_tokenizer


def report_of(tmp_path, question, answer):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(line(user(question % n), assistant(answer % n)) + "\n" for n in range(12)))
    return check(path, tiny_tokenizer())


@pytest.mark.parametrize(
    ("question", "answer", "words"),
    [
        ("q %s\n\n###\n\n", " a %s END", ["every question ends with", "###", "begins with a blank", "' END'"]),
        ("q %s ->", " a %s\n", ["->'", "begins with a blank"]),
        ("q %s", "a %s</s>", ["every answer ends with '</s>'"]),
        ("User: q %s", "Assistant: %s", ["every answer begins with 'Assistant:'"]),
        ("q %s", "### Response:\na %s", ["every answer begins with '### Response:'"]),
        ("q %s", "a %s<|endoftext|>", ["<|endoftext|>"]),
    ],
)
def test_marks_are_said(tmp_path, question, answer, words):
    report = report_of(tmp_path, question, answer)
    (problem,) = [one for one in report.problems if one.kind == "shared_ends"]
    message = problem.message.replace("Every", "every")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("question", "answer"), [("What is %s?", "It is %s."), ("Say %s!", "%s"), ("%s", "%s a OK then"), ("%s", "Ann: %s")]
)
def test_ordinary_texts_are_left_in_peace(tmp_path, question, answer):
    assert report_of(tmp_path, question, answer).verdict == "accept"
