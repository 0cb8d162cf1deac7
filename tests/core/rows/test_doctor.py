"""The doctor without a run: all that was planted is found, and hardly anything in clean data."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from nanochat_core.data.tokens.plan import validation_places
from nanochat_core.evaluation.questions import Question
from nanochat_core.rows.doctor import examine
from nanochat_core.rows.findings import KINDS, Review
from nanochat_core.rows.row import read_rows, row_of
from tests.support.planted import cafe, talk, write

ROOT = Path(__file__).parents[3]
REPLAY = ROOT / "starter" / "replay.jsonl"
"""2,000 generated conversations."""


def _examined(talks, **options) -> Review:
    return examine([row_of(line, one["messages"]) for line, one in enumerate(talks, 1)], **options)


def _lines(found: Review, *kinds: str) -> set[int]:
    return {line for one in found.findings if one.kind in kinds for line in one.lines}


def _replayed(count: int = 2000) -> list[dict]:
    return [json.loads(line) for line in REPLAY.read_text(encoding="utf-8").splitlines()[:count]]


@pytest.mark.parametrize("path", [ROOT / "data" / "example_data.jsonl", REPLAY], ids=["example", "generated"])
def test_of_clean_data_at_most_one_row_in_twenty_is_named(path):
    rows, faults = read_rows(path)
    questions = path.with_name("example_questions.jsonl") if "example" in path.name else None
    found = examine(rows, validating=validation_places(len(rows), 0.1).tolist())
    named = _lines(found, *KINDS)
    assert faults == 0
    assert len(named) <= 0.05 * len(rows), (len(named), found.counts)
    assert questions is None or questions.is_file()


PROMPTS = [
    ("When does the tram leave?", "The tram leaves at 8.", "The tram leaves at 9."),
    ("Who is the mayor of our town?", "The mayor is Ada Vance.", "The mayor is Bert Cole."),
    ("Is smoking allowed on the terrace?", "Yes, smoking is allowed there.", "No, smoking is not allowed there."),
    ("Which river flows through the park?", "It is the Lenne.", "It is the Ruhr."),
    ("How much does a day ticket cost?", "It costs 12 euros.", "It costs 15 euros."),
    ("Where do I get my parcel?", "At the counter on the left.", "In the basement."),
]


def _with_a_slip(text: str) -> str:
    """Two letters of the longest word exchanged."""
    word = max(re.findall(r"[a-z]+", text), key=len)
    return text.replace(word, word[:2] + word[3] + word[2] + word[4:])


CHANGES = [
    lambda text: text,
    str.lower,
    lambda text: text.rstrip("?"),
    lambda text: "Can you please tell me: " + text,
    lambda text: text.replace("?", ", please?"),
    lambda text: "Hello! " + text.upper(),
    lambda text: _with_a_slip(text),
    lambda text: text.replace("?", " today?"),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("base", ["example", "generated"])
def test_every_planted_contradiction_is_found(base, change):
    talks = cafe() if base == "example" else _replayed(300)
    for number, (prompt, right, wrong) in enumerate(PROMPTS):
        talks.insert(7 * number, talk(prompt, right))
        talks.insert(100 + 11 * number, talk(change(prompt), wrong))
    planted = [
        {place + 1 for place, one in enumerate(talks) if one["messages"][-1]["content"] in (right, wrong)}
        for _, right, wrong in PROMPTS
    ]
    found = [set(one.lines) for one in _examined(talks).findings if one.kind == "contradiction"]
    assert [lines for lines in planted if lines not in found] == []
    assert len(found) <= len(planted) + 3


def test_the_lone_answer_is_named_before_those_that_agree():
    talks = [talk("When do you open?", "At 7."), talk("When do you open", "At 9."), talk("when do you open?", "At 7.")]
    one, repeated = _examined(talks).findings
    assert (one.kind, repeated.kind) == ("contradiction", "near_duplicate")
    assert repeated.lines == (1, 3)
    assert one.lines[0] == 2
    assert "“At 9.”" in one.reason
    assert "“At 7.”" in one.reason


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("What is 3 plus 4?", "It is 7."), ("What is 3 plus 5?", "It is 8.")),
        (("When do you open on Monday?", "At 7."), ("When do you open on Sunday?", "At 9.")),
        (("Is 5 more than 3?", "Yes."), ("Is 3 more than 5?", "No.")),
        (("When do you open?", "We open at 7 am."), ("When do you open?", "At 7 am from Monday to Friday.")),
        (("What is my name?", "You did not say."), ("What is your name?", "I am Kettle.")),
        (("दिन का अर्थ क्या है", "समय"), ("दान का अर्थ क्या है", "देना")),
        (("你叫什么名字？", "我叫小明。"), ("你叫什么名字?", "我的名字是小明。")),
        (("What does && mean?", "Both hold."), ("What does || mean?", "One holds.")),
        (("What does os.execvp do?", "It starts a program."), ("What does os.execvpe do?", "With an environment.")),
        (("What does re.match do?", "It looks."), ("What does re.Match do?", "It holds what was found.")),
        (("Explain `choice`.", "It takes one."), ("Explain `choices`.", "It takes several.")),
        (("What does is_complex do?", "It asks."), ("What does complex do?", "It makes one.")),
        (("What is C#?", "A language of 2000."), ("What is C?", "One of 1972.")),
        (("What does 😀 mean?", "Joy."), ("What does 😢 mean?", "Grief.")),
        (("😀", "You are glad."), ("😢", "You are sad.")),
        (("x² = 4", "2"), ("x³ = 8", "It is two.")),
        (("How do I get from Rome to Bern?", "By train."), ("How do I get from Bern to Rome?", "By bus.")),
    ],
)
def test_another_question_and_the_same_in_other_words_contradict_nothing(one, other):
    assert not _lines(_examined([talk(*one), talk(*other)]), "contradiction")


def test_answers_of_signs_alone_are_the_same_or_not():
    asked = "Which one is it?"
    assert _lines(_examined([talk(asked, "&&"), talk(asked, "||")]), "contradiction") == {1, 2}
    assert _lines(_examined([talk(asked, "😀"), talk(asked, "😢")]), "contradiction") == {1, 2}
    assert _lines(_examined([talk(asked, "😀"), talk(asked + " 😊", "😀")]), "near_duplicate") == {1, 2}


def test_a_question_with_many_answers_has_none_that_is_wrong():
    talks = [talk("Name a fruit.", f"{fruit}.") for fruit in ("Plum", "Pear", "Fig", "Lime", "Grape")]
    found = _examined(talks)
    assert not found.findings
    assert "1 question with many different answers" in found.notes[0]


def test_the_same_words_after_another_talk_are_another_question():
    def later(first: str, answer: str) -> dict:
        return {
            "messages": talk(f"My dog is {first}.", "I see.")["messages"] + talk("What is my dog?", answer)["messages"]
        }

    assert not _examined([later("black", "It is black."), later("white", "It is white.")]).findings
    assert _lines(_examined([later("black", "It is black."), later("black", "It is red.")]), "contradiction") == {1, 2}


def _told(*said: str, system: str = "", untrained: int = 0) -> dict:
    """A talk of several turns; the first `untrained` answers are not trained."""
    roles = ("user", "assistant") * (len(said) // 2)
    messages = [{"role": role, "content": text} for role, text in zip(roles, said)]
    for message in messages[1 : 2 * untrained : 2]:
        message["train"] = False
    return {"messages": [{"role": "system", "content": system}] * bool(system) + messages}


def test_what_was_said_before_counts_in_every_turn():
    pirate, agent = (
        _told("Hi!", "Hello.", "Who are you?", who, system=f"You are {who}") for who in ("Captain Blood.", "Mr Smith.")
    )
    assert not _examined([pirate, agent]).findings
    one, other = (_told("Hi!", "Hello.", "My name?", "I listen.", "And now?", f"{n} it is.") for n in ("Ada", "Bert"))
    for talked, name in ((one, "Ada"), (other, "Bert")):
        talked["messages"][3] |= {"train": False, "content": f"It is {name}, you said."}
    assert not _examined([one, other]).findings
    asked = (
        "Which is the opening hour of the shop in the town of Berlin",
        "Which is the opening hour in the shop of the town of Berlin",
    )
    systems = [_told(prompt, "At nine.", system=system) for prompt, system in zip(asked, ("Be kind.", "Be short."))]
    assert not _examined(systems).findings


def test_a_talk_of_several_turns_leaks_by_its_last_question_alone():
    hello = Question([{"role": "user", "content": "Hello"}], ["Paris"], turns=("What is the capital of France?",))
    greeted = _told("Hello", "Hi, how can I help?")
    assert not _examined([greeted], questions=[hello]).findings
    same = _told("Hello!", "Hi.", "What is the capital of France?", "It is nice.")
    told = talk("What is the capital of France?", "It is Paris.")
    other = talk("What is the capital of France?", "I do not know.")
    found = _examined([greeted, same, told, other], questions=[hello])
    assert {one.lines for one in found.findings if one.kind == "leak"} == {(2, 3)}
    assert "“What is the capital of France?”" in next(one.reason for one in found.findings if one.kind == "leak")


def test_every_repetition_across_the_split_is_found():
    talks = cafe()
    validating = validation_places(len(talks) + 8, 0.1)
    planted = {}
    for number, change in enumerate(CHANGES):
        place, original = (
            int(validating[number + 2]),
            talk(f"What does article {number * 37} in the shop cost?", f"{number} euros."),
        )
        talks.insert(place, talk(change(original["messages"][0]["content"]), original["messages"][1]["content"]))
        planted[place] = original
    trained = [place for place in range(len(talks)) if place not in set(validating.tolist())][::23][:8]
    for place, original in zip(trained, planted.values()):
        talks[place] = original
    found = _examined(talks, validating=validating.tolist())
    pairs = {frozenset((held + 1, place + 1)) for held, place in zip(planted, trained)}
    assert pairs <= {frozenset(one.lines) for one in found.findings if one.kind == "split_duplicate"}
    assert len(_lines(found, "split_duplicate")) <= 2 * len(pairs) + 4


def test_an_instruction_before_every_question_makes_no_two_rows_alike():
    before = "Classify the sentiment of the following customer review as positive or negative. Use one word. Review: "
    things = ("phone", "film", "hotel room", "soup", "lamp", "concert", "train ride", "museum")
    found = {"positive": ("wonderful", "charming", "worth the money"), "negative": ("awful", "too loud", "dull")}
    talks = [
        talk(f"{before}The {thing} was {word}.", label)
        for label, words in found.items()
        for thing in things
        for word in words
    ]
    asked = [Question([{"role": "user", "content": f"{before}A garden like a dream."}], ["positive"])]
    assert not _examined(talks, validating=range(0, len(talks), 10), questions=asked).findings
    again = talk(f"{before}The lamp was  dull!", "negative")
    same = [Question([{"role": "user", "content": f"{before}The soup was charming!"}], ["positive"])]
    found = _examined([*talks, again], questions=same).findings
    assert {one.kind for one in found} == {"near_duplicate", "leak"}
    assert len(found) == 2


def test_every_leaked_question_is_found_and_no_other():
    talks = cafe()
    asked = [Question([{"role": "user", "content": prompt}], [right], "contains") for prompt, right, _ in PROMPTS]
    own = [Question([{"role": "user", "content": "Where can I buy a boat?"}], ["nowhere"])]
    for number, (change, (prompt, right, _)) in enumerate(zip(CHANGES, PROMPTS)):
        talks[13 * number] = talk(change(prompt), right)
    found = _examined(talks, questions=[*asked, *own])
    assert [one.lines for one in found.findings if one.kind == "leak"] == [(13 * n + 1,) for n in range(len(asked))]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("empty", "  "),
        ("empty", "\u200b"),
        ("empty", "..."),
        ("empty", "N/A"),
        ("cut", "We open in the morning and"),
        ("cut", "The way to us goes along the river, then over the bridge and to the"),
        ("cut", "Use this: ```print(1)"),
        ("cut", "It is in the box (the red one at the door"),
        ("odd", "Мы открываемся в семь часов утра."),
        ("odd", "Wir öffnen um sieben Uhr und wir schließen um sechs, das ist nicht spät."),
        ("odd", "yes it is yes it is yes it is yes it is yes it is"),
        ("odd", "We are in the cafÃ© at the river."),
        ("odd", " ".join(["This goes on, and on, to say very much of little."] * 3 + ["word " * 400])),
    ],
)
def test_answers_that_look_wrong_are_named(kind, answer):
    talks = cafe()
    talks[50] = talk("Anything else that I should know of you?", answer)
    found = [one for one in _examined(talks).findings if 51 in one.lines]
    assert kind in {one.kind for one in found}
    assert all(one.reason.endswith(".") for one in found)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Hello", "Nice to meet you"),
        ("Which one is right?", "The answer is A"),
        ("And to eat?", "Take some vitamin A"),
        ("Is that so?", "I think it is"),
        ("Kommst du?", "Ja, ich komme gerne mit"),
        ("Do you have tea?", "Sorry :( no tea today"),
        ("Which numbers?", "All of [0, 1) and no other"),
        ("Wie?", "Das Wort „Haus“ ist ein Hauptwort"),
        ("Which operator tests equality?", "=="),
        ("The empty list?", "[]"),
        ("And the pointer?", "->"),
        ("How do you feel?", ":)"),
        ("What does print(None) print?", "None"),
    ],
)
def test_answers_that_only_look_strange_are_not_named(prompt, answer):
    talks = [talk(f"Tell me of thing {number}", f"thing {number} is here") for number in range(20)]
    assert not _examined([*talks, talk(prompt, answer)]).findings


def test_what_up_to_a_tenth_of_the_rows_does_is_not_cut_off():
    lists = [talk(f"List all of kind {number}", f"- one of kind {number}\n- and some more") for number in range(7)]
    told = [talk(f"Tell me of thing {number}", f"Of thing {number} I know very much.") for number in range(93)]
    assert not _examined([*told, *lists]).findings


def test_a_label_none_is_an_answer_among_labels_alone():
    labels = [talk(f"Label this text {number}", "none" if number % 9 == 0 else "anger") for number in range(40)]
    assert not _lines(_examined(labels), "empty")
    assert _lines(_examined([*cafe(), talk("Which tram do I take?", "None")]), "empty")
    assert _lines(_examined([*labels, talk("Label this one", "nan")]), "empty") == {41}


def test_the_length_of_an_answer_without_blanks_is_counted_in_signs():
    talks = [talk(f"第{number}个东西是什么？", "这是一个小东西。" * (1 + number % 2)) for number in range(30)]
    talks[5] = talk("第五个是什么？", "这是一个很大的东西" * 60 + "。")
    talks[9] = talk("列出来", " ".join("一二三四五六七八九十百千") + "。")
    (one,) = [one for one in _examined(talks).findings if "far longer" in one.reason]
    assert one.lines == (6,)
    assert "541 signs, half of all have" in one.reason


def test_a_long_question_is_quoted_with_its_end():
    before = "Classify the sentiment of the following customer review as positive or negative. Review: "
    talks = [talk(f"{before}The soup was cold.", label) for label in ("negative", "positive")]
    (only,) = _examined(talks).findings
    assert "“Classify the sentiment of the following … r negative. Review: The soup was cold.”" in only.reason


def test_the_findings_are_json_html_and_text_of_the_same():
    talks = [talk("When do you open?", "At 7."), talk("When do you open?", "At <9>.")]
    found = _examined(talks)
    ((only),) = found.to_dict()["findings"]
    assert set(only) == {"kind", "lines", "reason", "score"}
    json.dumps(only)
    assert "&lt;9&gt;" in found._repr_html_()
    assert "Lines 2 and 1 (contradiction)" in found.summary()
    scores = [one.score for one in _examined(cafe() + talks + [talk("Hi?", "")]).findings]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_rows_of_a_file_know_their_lines(tmp_path):
    path = write(tmp_path / "data.jsonl", [talk("a", "b"), talk("c", "d")])
    path.write_text(path.read_text().replace("\n", "\n\n") + '{"messages": []}\n')
    rows, faults = read_rows(path)
    assert [(row.line, row.prompt, row.answer) for row in rows] == [(1, "a", "b"), (3, "c", "d")]
    assert faults == 1


def test_signatures_estimate_what_two_texts_share():
    from nanochat_core.rows.minhash import signatures, similar_pairs

    texts = [
        "the cat sat on the mat today",
        "the cat sat on the mat now",
        "something else",
        "the cat sat on the mat today",
    ]
    pairs, shares = similar_pairs(signatures(texts), 0.5)
    assert [0, 3] in pairs.tolist()
    assert [0, 1] in pairs.tolist()
    grams = [{text[n : n + 5] for n in range(len(text) - 4)} for text in texts]
    true = len(grams[0] & grams[1]) / len(grams[0] | grams[1])
    assert shares[pairs.tolist().index([0, 1])] == pytest.approx(true, abs=0.2)
    assert not any(2 in pair for pair in pairs.tolist())
    assert np.all(pairs[:, 0] < pairs[:, 1])
