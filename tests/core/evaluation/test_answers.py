"""Scoring: what counts as right, what a questions file may hold, and that the replies are the engine's own."""

import json

import pytest

from nanochat_core.engine.engine import Engine
from nanochat_core.evaluation.answers import SILENCE, ask, evaluate, visible_text
from nanochat_core.evaluation.questions import Question, load_questions
from nanochat_core.evaluation.scores import Score
from tests.support.tiny import tiny_model, tiny_tokenizer

ASKED = [{"role": "user", "content": "what?"}]


@pytest.mark.parametrize(
    ("match", "expected", "reply", "right"),
    [
        ("exact", ["Paris."], "Paris.", True),
        ("exact", ["Paris."], "  paris. ", True),
        ("exact", ["Paris."], "It is Paris.", False),
        ("exact", ["Rome.", "Paris."], "Paris.", True),
        ("contains", ["7 am"], "We open at 7 AM.", True),
        ("contains", ["7 am"], "We open at 17 am.", False),
        ("contains", ["7"], "It costs 75.", False),
        ("contains", ["cat"], "a category", False),
        ("contains", ["= -4"], "3-7 = -4", True),
        ("contains", ["café"], "das Café\nhier", True),
        ("contains", ["blue kettle"], "The Blue\n Kettle", True),
        ("contains", ["paris"], "", False),
    ],
)
def test_what_counts_as_an_answer(match, expected, reply, right):
    assert Question(ASKED, expected, match).answered_by(reply) is right


def test_a_file_may_ask_by_question_or_by_messages(tmp_path):
    path = tmp_path / "questions.jsonl"
    talk = [{"role": "user", "content": "I am Ida."}, {"role": "assistant", "content": "Hi."}, *ASKED]
    rows = [
        {"question": "When?", "expected": "at 7"},
        {"messages": talk, "expected": ["a", "b"], "match": "exact", "task": "memory", "skill": "name"},
    ]
    path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    first, second = load_questions(path)
    assert first == Question([{"role": "user", "content": "When?"}], ["at 7"], "contains", "questions")
    assert second == Question(talk, ["a", "b"], "exact", "memory", "name")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1"),
        ("question,expected", "it begins with 'question,expected'"),
        ('{"question": "q", "expected": ["a"],}', "a comma too many before column"),
        ("[" * 100_000, "line 1"),
        ("[]", "no object"),
        ('{"expected": ["a"]}', 'neither a "question"'),
        ('{"question": " ", "expected": ["a"]}', 'neither a "question"'),
        ('{"question": "q"}', '"expected"'),
        ('{"question": "q", "expected": []}', '"expected"'),
        ('{"question": "q", "expected": [" "]}', '"expected"'),
        ('{"question": "q", "expected": [7]}', '"expected"'),
        ('{"question": "q", "expected": ["a"], "match": "near"}', "must be one of contains"),
        ('{"messages": "q", "expected": ["a"]}', "list of messages"),
        ('{"messages": [{"role": "assistant", "content": "a"}], "expected": ["a"]}', "end with a message of the user"),
        ("", "no questions"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(tmp_path, line, said):
    path = tmp_path / "questions.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(ValueError, match=said) as caught:
        load_questions(path)
    assert str(path) in str(caught.value)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        load_questions(tmp_path / "nothing.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="UTF-8"):
        load_questions(tmp_path / "latin.jsonl")


def test_the_replies_are_the_engines_greedy_ones_and_are_counted_by_task():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    prompts = [[{"role": "user", "content": text}] for text in ("hello", "the name", "three fruits of it")]
    said = [Engine(model, tokenizer).reply(prompt, max_tokens=12, temperature=0.0) for prompt in prompts]
    assert all(said)
    questions = [
        Question(prompts[0], [said[0]], "exact", "a", "one"),
        Question(prompts[1], ["surely not this"], "exact", "a", "two"),
        Question(prompts[2], [said[2]], "exact", "b"),
    ]
    result = evaluate(model, tokenizer, questions, max_tokens=12)
    assert [answer.reply for answer in result.answers] == said
    assert [answer.correct for answer in result.answers] == [True, False, True]
    assert (result.correct, result.total, result.accuracy) == (2, 3, pytest.approx(2 / 3))
    assert result.tasks == {"a": Score(1, 2), "b": Score(1, 1)}
    assert result.by_skill() == {"one": Score(1, 1), "two": Score(0, 1), "b": Score(1, 1)}


def test_tool_calls_and_their_outputs_are_not_part_of_the_reply():
    tokenizer = tiny_tokenizer()
    special, encode = tokenizer.special, tokenizer.encode
    ids = [
        *encode("So: "),
        *[special("<|python_start|>"), *encode("2*7"), special("<|python_end|>")],
        *[special("<|output_start|>"), *encode("14"), special("<|output_end|>")],
        *encode("it is 14"),
    ]
    assert visible_text(ids, tokenizer) == "So: it is 14"


def test_in_several_turns_the_model_hears_its_own_replies():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    engine, talk = Engine(model, tokenizer), []
    for text in ("hello", "the name"):
        talk.append({"role": "user", "content": text})
        talk.append({"role": "assistant", "content": engine.reply(talk, max_tokens=12, temperature=0.0) or SILENCE})
    alone = [{"role": "user", "content": "three fruits"}]
    questions = [
        Question([{"role": "user", "content": "hello"}], ["x"], turns=["the name"]),
        Question(alone, ["x"]),
    ]
    heard = {}
    replies = ask(model, tokenizer, questions, 12, heard.__setitem__)
    assert replies == [talk[-1]["content"], engine.reply(alone, max_tokens=12, temperature=0.0)]
    assert heard == dict(enumerate(replies))


def test_a_question_too_long_for_the_model_is_named():
    long = Question([{"role": "user", "content": "long " * 300}], ["x"])
    with pytest.raises(ValueError, match=r"Question 2 has [\d,]+ tokens"):
        ask(tiny_model(), tiny_tokenizer(), [Question(ASKED, ["x"]), long])
    with pytest.raises(ValueError, match=r"Question 7 has [\d,]+ tokens"):
        ask(tiny_model(), tiny_tokenizer(), [Question(ASKED, ["x"]), long], numbers=[3, 7])
