"""The shipped example: an invented cafe's facts to learn, and held-out questions that only those facts answer."""

import json

import pytest

from nanochat_core.data.conversations import check, load_conversations
from nanochat_core.paths import shipped

DATA = shipped("data")


@pytest.fixture(scope="module")
def conversations():
    return load_conversations(DATA / "example_data.jsonl")


@pytest.fixture(scope="module")
def questions():
    with open(DATA / "example_questions.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def said_by(role, conversations):
    return [
        message["content"]
        for conversation in conversations
        for message in conversation["messages"]
        if message["role"] == role
    ]


def test_the_example_is_accepted_without_a_warning():
    report = check(DATA / "example_data.jsonl")
    assert (report.verdict, report.conversations) == ("accept", 120)


def test_it_shows_all_that_the_format_can_do(conversations):
    roles = [[message["role"] for message in conversation["messages"]] for conversation in conversations]
    assert sum(len(turns) > 3 for turns in roles) >= 10
    assert sum(turns[0] == "system" for turns in roles) == 2
    assert max(len(answer.split()) for answer in said_by("assistant", conversations)) < 25


def test_the_questions_are_held_out(conversations, questions):
    trained = {text.lower() for text in said_by("user", conversations)}
    assert len(questions) == len({question["question"] for question in questions}) == 30
    assert not trained & {question["question"].lower() for question in questions}


def test_each_expected_phrase_names_one_fact_and_no_question_gives_it_away(conversations, questions):
    answers = set(said_by("assistant", conversations))
    for question in questions:
        assert set(question) == {"task", "question", "expected", "match"}
        for phrase in question["expected"]:
            assert phrase.lower() not in question["question"].lower()
            assert len([answer for answer in answers if phrase.lower() in answer.lower()]) == 1


def test_every_fact_is_asked_for_and_worded_alike_each_time(conversations, questions):
    answers = set(said_by("assistant", conversations))
    assert len(answers) == 24
    asked = {phrase for question in questions for phrase in question["expected"]}
    assert all(any(phrase in answer for phrase in asked) for answer in answers)


def test_the_last_tenth_which_validates_has_twelve_different_facts(conversations):
    assert len(set(said_by("assistant", conversations[-12:]))) == 12
    learned = said_by("assistant", conversations[:-12])
    assert all(learned.count(answer) >= 3 for answer in set(said_by("assistant", conversations)))
