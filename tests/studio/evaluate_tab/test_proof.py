"""Did it get better: what stands there at once, what is asked, and that a rule that changes asks nothing."""

import json
import threading

import gradio as gr
import pytest

from nanochat_core.evaluation.questions import Question, load_questions, save_questions
from nanochat_core.evaluation.results import result_path
from nanochat_core.evaluation.scores import grade
from nanochat_core.runs.base import note_base_step
from nanochat_core.runs.run import Run
from nanochat_core.system.files import write_json
from studio.evaluate_tab.asking import Asking
from studio.evaluate_tab.known import pair, replies_of
from studio.evaluate_tab.proof_panel import ProofHandlers
from studio.models.choices import pair_of
from tests.e2e.invented import invent_run
from tests.support.chatting import A, B, install_fake_models
from tests.support.pressed import Pressed, seen_by_another

EVIL = "<img src=x onerror=alert(1)>"
ONE, TWO = ("pretrained/one", 7), ("pretrained/two", 7)


def questions_of(count: int) -> list[Question]:
    return [Question([{"role": "user", "content": f"Question {n}? {EVIL}"}], [f"answer {n}"]) for n in range(count)]


@pytest.fixture
def file(home):
    """Ten questions of one's own, and two models that were asked none of them."""
    install_fake_models(home)
    path = home / "data" / "mine_questions.jsonl"
    path.parent.mkdir()
    save_questions(path, questions_of(10))
    return path


def answered(name: str, step: int, questions: list[Question], right: set[int], part: str = "a") -> None:
    """Keep the replies of a model, as an evaluation does."""
    replies = [f"Answer {n}." if n in right else f"No idea {EVIL}" for n in range(len(questions))]
    result = json.loads(json.dumps(vars(grade(questions, replies)) | {"tasks": {}}, default=vars))
    path = result_path(name, "questions", name[::-1].replace("/", "") * 3, {"part": part})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"model": name, "step": step, "complete": True, "made": part, **result})


class FakeModels:
    """Answers everything that is wanted, as the process does: by files."""

    def __init__(self):
        self.asked, self.go_on = [], threading.Event()
        self.go_on.set()

    def evaluate(self, models, wanted, report=None, stop=None):
        self.asked.append((models, wanted))
        report(0.5, "one: question 5 of 10")
        self.go_on.wait()
        questions = load_questions(wanted["questions"])
        for name, step in models:
            answered(name, step, questions, set(range(8)) if name.endswith("one") else {8}, "b")
        return True


def handlers() -> ProofHandlers:
    return ProofHandlers(Asking(FakeModels()))


def test_what_was_not_asked_is_asked_of_both_and_then_stands_there(file):
    act = handlers()
    button, proof, *_ = act.shown(A, B, str(file))
    assert (button.value, button.visible) == ("Ask both 10 questions", True)
    assert "not both asked these 10 questions yet" in proof
    progress, last = list(act.ask(A, B, str(file)))
    assert "question 5 of 10" in progress[2]
    assert act.asking._models.asked == [([ONE, TWO], {"questions": str(file)})]
    assert last[2] == ""
    button, proof, *_ = act.shown(A, B, str(file))
    assert not button.visible
    assert "8 learnt, 1 lost: better, and hardly by chance (p = 0.039)." in proof
    assert "8 of 10" in proof
    assert "<b>Lost</b> 1 question that only pretrained/two answers" in proof
    assert "<img" not in proof


def test_a_changed_rule_judges_the_kept_replies_again(file):
    questions = questions_of(10)
    answered(*ONE, questions, set(range(8)))
    answered(*TWO, questions, set())
    assert pair(questions, ONE, TWO).flips.learnt == list(range(1, 9))
    stricter = [Question(one.messages, one.expected, "equals") for one in questions]
    assert pair(stricter, ONE, TWO).flips.learnt == []
    assert pair(stricter, ONE, TWO).missing == 0
    more = [*questions, Question([{"role": "user", "content": "A new one"}], ["yes"])]
    found = pair(more, ONE, TWO)
    assert (found.missing, found.flips.total) == (1, 10)


def test_another_checkpoint_of_a_model_is_another_model(file):
    questions = questions_of(10)
    answered(*ONE, questions, {1})
    assert pair(questions, ("pretrained/one", 8), ONE).asked == []


def with_answers(tag: str, questions: list[Question], **settings) -> Run:
    """A run that was asked before and after its training."""
    run = invent_run(tag, steps=20, **settings)
    for ending in ("model_000020.pt", "meta_000020.json"):
        (run.path / ending).write_bytes(b"{}")
    for name, right in (("before", {9}), ("after", set(range(7)))):
        result = grade(questions, [f"Answer {n}." if n in right else "No." for n in range(len(questions))])
        values = json.loads(json.dumps(vars(result), default=vars))
        for answer in values["answers"]:
            del answer["key"]  # of before there were keys
        old = {"correct": 470 if name == "before" else 460, "total": 500}
        (run.evals_dir / f"{name}.json").write_text(json.dumps({"replies": [], "new": values, "old": old}))
    return run


def with_two_steps(tag: str) -> Run:
    run = invent_run(tag)
    run.write_status(best_step=10)
    for step in (10, 20):
        (run.path / f"model_0000{step}.pt").touch()
        (run.path / f"meta_0000{step}.json").write_text("{}")
    return run


def test_a_run_is_compared_with_the_step_that_it_began_with(home):
    with_two_steps("base")
    with_answers("child", questions_of(1), from_finetuned="base")
    assert pair_of("child") == ("finetuned/base@20", "finetuned/child@20")  # the base's best is its step 10


@pytest.mark.parametrize("noted", ["at its start", "as a setting", "not at all"])
def test_what_the_base_answered_is_that_of_the_step_the_run_began_with(home, noted):
    questions = questions_of(10)
    base = with_two_steps("base")
    chosen = {"model_step": 10} if noted == "as a setting" else {}
    run = with_answers("child", questions, from_finetuned="base", **chosen)
    record = run.record()
    assert record.pop("base_step") == (10 if chosen else 20)  # what it would begin with when it was made
    write_json(run.config_file, record)
    if noted == "at its start":
        note_base_step(run, 10)
    assert replies_of(("finetuned/base", 20)) == {}
    assert len(replies_of(("finetuned/base", 10))) == (0 if noted == "not at all" else 10)
    (base.path / "model_000020.pt").unlink()
    assert len(replies_of(("finetuned/base", 10))) == 10  # the only one that it can have been


def test_a_run_stands_beside_its_base_at_once(home):
    path = home / "data" / "mine_questions.jsonl"
    path.parent.mkdir()
    questions = questions_of(10)
    save_questions(path, questions)
    run = with_answers("mine", questions)
    settings = json.loads(run.config_file.read_text())
    settings["settings"]["questions_path"] = str(path)
    run.config_file.write_text(json.dumps(settings))
    act = handlers()
    this, other, chosen = (update.get("value") for update in act.lists(None, None, None))
    assert (this, chosen) == ("finetuned/mine@20", str(path))
    assert other.startswith("starter@")
    button, proof, *_ = act.shown(this, other, chosen)
    assert not button.visible
    assert "7 learnt, 1 lost" in proof
    assert "98%" in proof  # of the old skills
    assert 'data-run="mine"' in proof
    assert act.lists(this, other, chosen)[0].get("value") is None  # what was chosen meanwhile stays
    assert [update.get("value") for update in act.choose_run("mine")] == [this, other, chosen]


def test_only_one_task_at_a_time_and_a_stop_reaches_it(file):
    act = handlers()
    seen = []

    def evaluate(models, wanted, report=None, stop=None):
        with pytest.raises(ValueError, match="asked already"):
            next(act.asking.ask([ONE], {}))
        act.stop()
        seen.append(stop.is_set())
        report(1.0, "stopped")
        return False

    act.asking._models.evaluate = evaluate
    list(act.ask(A, B, str(file)))
    assert seen == [True]
    assert "not both asked" in act.shown(A, B, str(file))[1]
    assert act.stop() == ""


def test_what_cannot_be_compared_says_so(file):
    act = handlers()
    assert "Twice the same model" in act.shown(A, A, str(file))[1]
    assert "No model is chosen" in act.shown(None, A, str(file))[1]
    assert "gone" in act.shown(A, B, "/etc/passwd")[1]
    assert act.choose_run(None) == [gr.skip()] * 3


@pytest.mark.parametrize("shown", ["eval_proof", "eval_data_proof"])
def test_what_was_compared_last_is_what_stays(page, shown):
    """One event that gradio orders: of several, a slow proof of what was chosen before could come last."""
    pressed = Pressed(page)
    [event] = [one for one in page.fns.values() if one.fn and page.blocks[pressed.ids[shown]] in one.outputs]
    assert event.trigger_mode == "always_last"
    assert {(pressed.ids[name], "change") for name in ("eval_model", "eval_other")} < set(event.targets)


@pytest.fixture
def slow(page):
    """Models in the place of the page's, which answer once `go_on` is set."""
    [event] = Pressed(page).events("eval_ask", "click")
    asking, models = event.fn.__wrapped__.__self__.asking, FakeModels()
    was, asking._models = asking._models, models
    models.go_on.clear()
    yield models
    models.go_on.set()
    asking._models = was


def test_the_answer_to_a_long_task_is_of_what_is_chosen_by_then(file, page, slow):
    """Whoever looks at other models meanwhile keeps them; what was asked before is there when it is chosen again."""
    later = file.with_name("later_questions.jsonl")
    save_questions(later, questions_of(3))
    pressed = Pressed(page, eval_model=A, eval_other=B, eval_questions=str(file))
    [event] = pressed.events("eval_ask", "click")
    asking = pressed.begin(event)
    next(asking)
    pressed.do("eval_questions", "change", eval_questions=str(later))
    assert "these 3 questions yet" in pressed["eval_proof"]
    slow.go_on.set()
    list(asking)
    assert "3 learnt, 0 lost" in pressed["eval_proof"]  # the first three of the ten are the same
    pressed.do("eval_questions", "change", eval_questions=str(file))
    assert "8 learnt, 1 lost" in pressed["eval_proof"]


def test_a_page_that_is_opened_meanwhile_shows_it_to_its_end_and_then_the_proof(file, page, slow):
    chosen = {"eval_model": A, "eval_other": B, "eval_questions": str(file)}
    seen, watching = seen_by_another(page, "eval_ask", "eval_asking", **chosen)
    assert "question 5 of 10" in seen["eval_asking"]
    assert seen.shown["eval_stop"]
    slow.go_on.set()
    list(watching)
    assert (seen["eval_asking"], seen.shown["eval_stop"]) == ("", False)
    assert "8 learnt, 1 lost" in seen["eval_proof"]


def test_the_rows_behind_a_reply_do_not_come_after_another_choice(page):
    pressed = Pressed(page)
    [traced] = pressed.events("eval_proof", "act")
    for field in ("eval_model", "eval_other", "eval_questions", "eval_run"):
        assert pressed.is_ended_by(traced, field, "input")
