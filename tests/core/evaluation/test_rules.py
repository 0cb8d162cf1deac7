"""Rules: what each counts as right, what is refused where it is read, and that no pattern can hang an evaluation."""

import json
import time

import pytest

from nanochat_core.evaluation.questions import Question, load_questions, question_of, read_questions, save_questions
from nanochat_core.evaluation.rules import PATTERN_SECONDS, Rule
from nanochat_core.paths import PROJECT_ROOT

ASKED = [{"role": "user", "content": "what?"}]


@pytest.mark.parametrize(
    ("kind", "values", "reply", "right"),
    [
        ("not-contains", ["7 am"], "We open at 8 am.", True),
        ("not-contains", ["7 am", "8 am"], "We open at 8 AM.", False),
        ("not-contains", ["7"], "It costs 75.", True),
        ("equals", ["Paris."], " paris. ", True),
        ("equals", ["Paris."], "It is Paris.", False),
        ("starts-with", ["we open"], "We  open at 7 am.", True),
        ("starts-with", ["open"], "We open", False),
        ("regex", [r"^\d+ am$"], "7 am", True),
        ("regex", [r"^\d+ am$"], "at 7 am", False),
        ("regex", ["AM"], "7 am", False),
        ("regex", [r"\p{Lu}x"], "Éx", True),
        ("number", ["8"], "5 + 3 = 8", True),
        ("number", ["5"], "5 + 3 = 8", False),
        ("number", ["1234.5"], "It is 1,234.50 euros.", True),
        ("number", ["-4"], "3-7 = \u22124", True),
        ("number", ["0.3"], f"{0.1 + 0.2}", True),
        ("number", ["3"], "three", False),
        ("contains", ["七点"], "我们早上七点开门。", True),
        ("contains", ["七点"], "We open at七点.", True),
        ("contains", ["パン"], "パンは美味しいです", True),
        ("contains", ["ขนมปัง"], "เราขายขนมปังสด", True),
        ("contains", ["7"], "早上7点", True),
        ("contains", ["7"], "早上17点", False),
        ("contains", ["7点"], "早上17点", False),
        ("contains", ["am"], "spam", False),
        ("contains", ["Caf\u00e9"], "The Cafe\u0301 is open.", True),
        ("equals", ["Cafe\u0301"], "CAF\u00c9", True),
        ("number", ["12193131840"], "It is 12193131845.", False),
        ("number", ["12193131840"], "It is 12,193,131,840.", True),
        ("number", ["12193131840"], "It is 12193131840.5.", False),
        ("number", ["5"], "1e999", False),
        ("number", ["5"], "1e99999999999999999999", False),
        ("is-json", [], '{"a": [1, null]}', True),
        ("number", ["2021"], "From 2020-2021.", True),
        ("number", ["19"], "It was COVID-19.", True),
        ("number", ["10"], "About 5%-10%.", True),
        ("number", ["-10"], "It is (-10) degrees.", True),
        ("number", ["0.5"], "It is .5 litres.", True),
        ("number", ["-0.5"], "-.5", True),
        ("number", ["5"], "See no.5", True),
        ("contains", ["का"], "काम करो", False),
        ("contains", ["काम"], "काम करो", True),
        ("contains", ["काम"], "नाकाम", False),
        ("contains", ["قال"], "قالَ نعم", True),
        ("contains", ["٧"], "١٧", False),
        ("contains", ["5 m"], "It has 5 m².", False),
        ("contains", ["7"], "7\ufe0f\u20e3", True),
        ("is-json", [], "{a: 1}", False),
        ("is-json", [], "NaN", False),
        ("is-json", [], '{"a": -Infinity}', False),
        ("is-json", [], "[" * 100_000, False),
    ],
)
def test_what_each_rule_counts_as_right(kind, values, reply, right):
    assert Rule(kind, values).judge(reply).right is right


def test_a_number_may_be_off_by_its_tolerance():
    rule = Rule("number", ["10"], 0.5)
    assert [rule.judge(text).right for text in ("9.5", "10.5", "9.49", "10.51")] == [True, True, False, False]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", r"((a|aa)+)+b"])
def test_a_pattern_that_would_never_end_is_stopped_and_said(pattern):
    started = time.perf_counter()
    verdict = Question(ASKED, [pattern], "regex").judge("a" * 20_000 + "!")
    assert not verdict
    assert "took longer" in verdict.note
    assert time.perf_counter() - started < 100 * PATTERN_SECONDS  # it would be longer than the world is old


def test_several_rules_must_all_hold():
    question = question_of(
        {
            "question": "When?",
            "assert": [
                {"type": "contains", "value": ["7 am", "seven"]},
                {"type": "not-contains", "value": "8 am"},
                {"type": "number", "value": 7, "tolerance": 0.1},
            ],
        }
    )
    assert question.answered_by("at 7 am")
    assert not question.answered_by("at 7 am or 8 am")
    assert not question.answered_by("seven")
    assert question.wanted == "7 am or seven and not-contains 8 am and number 7 ± 0.1"


ROWS = [
    {"question": "When?", "expected": ["at 7"], "match": "contains"},
    {"task": "t", "skill": "s", "question": "Sum?", "expected": ["8", "9"], "match": "number", "tolerance": 0.5},
    {"turns": ["I am Ida.", "Who am I?"], "expected": ["Ida"], "match": "exact"},
    {"messages": [*ASKED, {"role": "assistant", "content": "that"}, *ASKED], "expected": ["a"], "match": "starts-with"},
    {"question": "JSON?", "assert": [{"type": "is-json"}, {"type": "regex", "value": ["^\\{"]}]},
]


def test_what_is_saved_is_read_again(tmp_path):
    path = tmp_path / "questions.jsonl"
    questions = [question_of(row) for row in ROWS]
    save_questions(path, questions)
    assert load_questions(path) == questions
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS


def test_turns_are_texts_of_the_user_and_the_last_one_is_judged():
    question = question_of(ROWS[2])
    assert (question.messages, question.turns) == ([{"role": "user", "content": "I am Ida."}], ("Who am I?",))
    assert question.asked == "Who am I?"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"expected": ["a"], "match": 7}, "rule is 7; it must be one of contains, not-contains"),
        ({"expected": ["("], "match": "regex"}, "is no regular expression"),
        ({"expected": ["a" * 501], "match": "regex"}, "501 characters"),
        ({"expected": ["seven"], "match": "number"}, "is no number"),
        ({"expected": ["1e999"], "match": "number"}, "too large a number"),
        ({"expected": [True], "match": "number"}, '"expected"'),
        ({"expected": ["7"], "match": "number", "tolerance": -1}, '"tolerance"'),
        ({"expected": ["7"], "match": "number", "tolerance": "1"}, '"tolerance"'),
        ({"expected": ["7"], "tolerance": 1}, "belongs to the rule number"),
        ({"assert": []}, '"assert" must be'),
        ({"assert": [{"type": "near", "value": "a"}]}, "rule is 'near'"),
        ({"turns": [" "], "expected": ["a"]}, '"turns"'),
        ({"expected": ["a"], "rule": "not-contains"}, 'the rule stands under "rule", and its key is "match"'),
        ({"expected": ["a"], "assert": [{"type": "contains", "value": "b"}]}, '"expected" stands beside "assert"'),
    ],
)
def test_faults_are_told_with_their_line(row, said):
    text = json.dumps(ROWS[0]) + "\n\n" + json.dumps({"question": "q", **row})
    with pytest.raises(ValueError, match=r"f\.jsonl, line 3: ") as caught:
        read_questions(text, "f.jsonl")
    assert said in str(caught.value)


def test_of_a_key_that_is_there_twice_none_is_passed_over():
    with pytest.raises(ValueError, match=r'f\.jsonl, line 1: the key "expected" is there twice'):
        read_questions('{"question": "q", "expected": ["a"], "expected": ["b"]}', "f.jsonl")
    [question] = read_questions('{"question": "q", "expected": ["a"], "id": "a7", "kind": "opening"}', "f.jsonl")
    assert question.expected == ["a"]  # other keys are the person's own


def test_a_rule_changes_no_key_and_another_question_does():
    first, same, other = (question_of({"question": q, "expected": e}) for q, e in (("a", "x"), ("a", "y"), ("b", "x")))
    assert first.key == same.key != other.key


def test_the_questions_of_the_handbook_are_read():
    text = (PROJECT_ROOT / "data" / "README.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("    {") and '"messages"' not in line]
    first, number, talk = read_questions("\n".join(lines), "README.md")
    assert first.answered_by("We open at 7 am.")
    assert number.answered_by("They are 5 euros.")
    assert len(talk.turns) == 1
    assert not talk.answered_by("Sorry, Ida.")
