"""Kept replies are judged by the questions of today, and what has no reply yet has no verdict."""

import json
from dataclasses import asdict

import pytest

from nanochat_core.evaluation.proof import flips_of
from nanochat_core.evaluation.questions import Question, save_questions
from nanochat_core.evaluation.results import all_replies, result_path, results
from nanochat_core.evaluation.scores import grade
from nanochat_core.evaluation.today import in_both, judged_by, judged_by_file, named, snapshot, unasked, unasked_words
from nanochat_core.report.document import public_results, report_of
from nanochat_core.report.markdown import blocks_to_markdown
from nanochat_core.system.files import sha256_of, write_json
from tests.e2e.invented import invent_run


def ask(text: str, *expected: str, **more) -> Question:
    return Question([{"role": "user", "content": text}], [*expected], **more)


THEN = [ask("When?", "7"), ask("Who?", "Nora"), ask("Where?", "mill")]
REPLIES = ["At 7.", "Tom does.", "In the mill."]


def kept(replies=REPLIES, keys=True) -> dict:
    result = asdict(grade(THEN, replies))
    for answer in result["answers"]:
        if not keys:
            del answer["key"]  # of before there were keys
    return json.loads(json.dumps(result))


@pytest.mark.parametrize("keys", [True, False])
def test_a_rule_that_changes_judges_the_same_reply_again(keys):
    found = judged_by(kept(keys=keys), [ask("When?", "8"), ask("Who?", "Tom"), THEN[2]])
    assert [answer["correct"] for answer in found["answers"]] == [False, True, True]
    assert (found["correct"], found["total"]) == (2, 3)
    assert "unasked" not in found


def test_what_is_new_or_reworded_has_no_verdict_and_what_is_gone_is_gone():
    found = judged_by(kept(), [THEN[2], ask("Who, please?", "Nora"), ask("Why?", "bread")])
    assert [answer["question"] for answer in found["answers"]] == ["Where?"]
    assert (found["correct"], found["total"]) == (1, 1)
    assert found["unasked"] == ["Who, please?", "Why?"]
    assert unasked_words(unasked(found)) == (
        "2 questions have no reply yet, new or reworded since: “Who, please?”, “Why?”."
    )
    assert unasked_words(unasked(found), names=False) == "2 questions have no reply yet, new or reworded since."
    assert unasked_words([]) == ""
    assert named(list("abcde")) == "“a”, “b”, “c” and 2 more"


def test_a_talk_of_another_beginning_is_another_question():
    before = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When?"}]
    assert judged_by(kept(keys=False), [Question(before, ["7"])])["unasked"] == ["When?"]


def test_a_file_that_is_gone_leaves_the_verdicts_of_then_and_says_so(tmp_path):
    found = judged_by_file(kept(), tmp_path / "mine_questions.jsonl")
    assert found["correct"] == 2
    assert "mine_questions.jsonl is gone or cannot be read" in found["as_then"]


def test_two_are_compared_on_what_both_have_a_reply_to():
    today = [*THEN, ask("Why?", "bread")]
    ours = judged_by(kept(), today)
    theirs = judged_by(json.loads(json.dumps(asdict(grade([today[3], *THEN[:2]], ["Bread.", "No.", "Nora."])))), today)
    this, other = in_both(ours, theirs)
    assert [answer["question"] for answer in this["answers"]] == ["When?", "Who?"]
    assert (this["correct"], other["correct"]) == (1, 1)
    assert unasked(this, other) == ["Why?", "Where?"]


def test_the_same_questions_in_another_order_are_compared():
    other = json.loads(json.dumps(asdict(grade([*reversed(THEN), THEN[0]], ["In the mill.", "Nora.", "No.", "No."]))))
    this, other = in_both(kept(), other)
    assert [answer["question"] for answer in this["answers"]] == ["When?", "Who?", "Where?"]
    assert flips_of(this, other).learnt == [1]
    assert flips_of(this, other).lost == [2]
    assert (other["correct"], other["total"]) == (2, 3)


@pytest.fixture
def run(home):
    """A run that was asked THEN before and after its training; nothing of it was right before."""
    file = home / "mine_questions.jsonl"
    save_questions(file, THEN)
    run = invent_run("mine", steps=20, questions_path=str(file))
    for name, replies in (("before", ["No."] * 3), ("after", REPLIES)):
        write_json(run.evals_dir / f"{name}.json", {"replies": [], "new": kept(replies), "old": None})
    return run, file


def test_a_report_and_a_card_say_what_holds_today(run):
    run, file = run
    assert snapshot(run, "after")["new"]["correct"] == 2
    assert "2 learnt, 0 lost" in str(report_of("mine").blocks)
    save_questions(file, [ask("When?", "8"), ask("Who?", "Tom"), ask("A secret?", "x")])
    said = str(report_of("mine").blocks)
    assert "1 learnt, 0 lost" in said
    assert "on these 3" not in said
    assert "1 question has no reply yet, new or reworded since: “A secret?”" in said
    card = "\n".join(blocks_to_markdown(public_results(run)))
    assert "1 question has no reply yet" in card
    assert "secret" not in card
    save_questions(file, [ask("All new?", "yes")])
    said = str(report_of("mine").blocks)
    assert "“All new?”" in said
    assert "learnt" not in said
    file.unlink()
    assert "the verdicts are those of then" in str(report_of("mine").blocks)


def test_replies_of_before_there_were_keys_are_known_by_their_question(run):
    told = kept(keys=False) | {"model": "finetuned/mine", "step": 20, "made": "1", "complete": True}
    write_json(result_path("finetuned/mine", "questions", "a" * 64, {}), told)
    assert all_replies("finetuned/mine", 20) == {"When?": "At 7.", "Who?": "Tom does.", "Where?": "In the mill."}


def test_replies_of_another_length_than_usual_stand_in_for_none_of_the_usual_one(run):
    told = {"model": "finetuned/mine", "step": 20, "complete": True}
    for made, tokens, replies in (("1", 64, REPLIES), ("2", 5, ["At"] * 3)):
        asked = kept(replies) | told | {"made": made, "asked": {"max_tokens": tokens, "device": "cpu"}}
        write_json(result_path("finetuned/mine", "questions", "a" * 64, {"tokens": tokens}), asked)
    assert [*all_replies("finetuned/mine", 20).values()] == REPLIES


def test_results_of_an_evaluation_are_judged_by_the_file_that_they_name(run):
    _, file = run
    path = result_path("pretrained/one", "questions", "abc" * 20, {})
    described = {"model": "pretrained/one", "step": 7, "complete": True, "made": "a"}
    write_json(path, described | {"file": str(file), "file_sha256": sha256_of(file), **kept()})
    assert results("pretrained/one", "questions")[0]["correct"] == 2
    save_questions(file, [ask("When?", "8"), ask("Why?", "bread")])
    [found] = results("pretrained/one", "questions")
    assert (found["correct"], found["total"], found["unasked"]) == (0, 1, ["Why?"])
    assert found["file_sha256"] == sha256_of(file)  # by which it stands beside another model's
