"""Measuring saved models: nothing twice, several one after the other, progress, and a stop that loses nothing."""

import errno
import hashlib
import json

import pytest

from nanochat_core import finetune
from nanochat_core.checkpoint.checksums import digest
from nanochat_core.evaluation import measuring
from nanochat_core.evaluation.measuring import Wanted, measure
from nanochat_core.evaluation.proof import data_proof, questions_proof
from nanochat_core.evaluation.results import results, results_folder
from nanochat_core.paths import find_model
from nanochat_core.system.files import read_json, write_json
from tests.support.short_training import changed, short_training
from tests.support.tiny import install_tiny_model, write_conversations


@pytest.fixture
def asked(home, monkeypatch):
    """How many questions each call of `ask` was given, and the models that were loaded."""
    calls, loaded = [], []
    real_ask, real_load = measuring.ask, measuring.load_model

    def ask(model, tokenizer, questions, *more):
        calls.append(len(questions))
        return real_ask(model, tokenizer, questions, *more)

    def load(name, *more, **options):
        loaded.append(name)
        return real_load(name, *more, **options)

    monkeypatch.setattr(measuring, "ask", ask)
    monkeypatch.setattr(measuring, "load_model", load)
    return calls, loaded


def _questions(home, *expected):
    rows = [{"question": f"hello {number}?", "expected": [text]} for number, text in enumerate(expected)]
    path = home / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_nothing_is_measured_twice(home, asked):
    calls, loaded = asked
    install_tiny_model(home, "one")
    wanted = Wanted(_questions(home, "x", "y"), str(write_conversations(home / "d.jsonl")))
    [first] = measure([("pretrained/one", None)], wanted, "cpu")
    [again] = measure([("pretrained/one", None)], wanted, "cpu")
    assert (calls, loaded) == ([2], ["pretrained/one"])
    assert again == first


def test_a_question_that_is_too_long_has_its_number_in_the_file_whatever_was_asked_before(home):
    install_tiny_model(home, "one")
    measure([("pretrained/one", None)], Wanted(_questions(home, "x", "y")), "cpu")
    path = _questions(home, "x", "y", "z")
    with open(path, "a") as file:
        file.write("\n" + json.dumps({"question": "long " * 3000, "expected": ["x"]}))
    with pytest.raises(ValueError, match=r"Question 4 has [\d,]+ tokens"):
        measure([("pretrained/one", None)], Wanted(path), "cpu")


def test_what_cannot_be_kept_is_measured_all_the_same(home, monkeypatch, caplog):
    def refuse(path, value):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    install_tiny_model(home, "one")
    wanted = Wanted(_questions(home, "x", "y"), str(write_conversations(home / "d.jsonl")))
    monkeypatch.setattr("nanochat_core.evaluation.results.write_json", refuse)
    [found] = measure([("pretrained/one", None)], wanted, "cpu")
    assert found.questions["total"] == 2
    assert "The result is not kept" in caplog.text
    assert "Read-only file system" in caplog.text


def test_a_changed_rule_asks_nothing_and_a_new_question_is_asked_alone(home, asked):
    calls, _ = asked
    install_tiny_model(home, "one")
    [first] = measure([("pretrained/one", None)], Wanted(_questions(home, "x", "y")), "cpu")
    reply = first.questions["answers"][0]["reply"]
    [judged] = measure([("pretrained/one", None)], Wanted(_questions(home, reply, "y")), "cpu")
    assert (judged.questions["correct"], calls) == (1, [2])
    measure([("pretrained/one", None)], Wanted(_questions(home, reply, "y", "z")), "cpu")
    measure([("pretrained/one", None)], Wanted(_questions(home, "x"), max_tokens=5), "cpu")
    assert calls == [2, 1, 1]


def test_a_verdict_of_former_rules_does_not_survive(home, asked):
    install_tiny_model(home, "one")
    wanted = Wanted(_questions(home, "x"))
    [first] = measure([("pretrained/one", None)], wanted, "cpu")
    [path] = results_folder("pretrained/one").glob("questions-*.json")
    other = first.questions["answers"][0] | {"correct": True}
    write_json(path, first.questions | {"correct": 1, "answers": [other]})
    assert [one["correct"] for one in results("pretrained/one", "questions")] == [0]
    assert measure([("pretrained/one", None)], wanted, "cpu") == [first]
    assert read_json(path)["correct"] == 0


def test_other_weights_under_the_same_name_are_another_model(home, asked):
    calls, _ = asked
    install_tiny_model(home, "one")
    wanted = Wanted(_questions(home, "x"))
    measure([("pretrained/one", None)], wanted, "cpu")
    folder = home / "models" / "pretrained" / "chatsft_checkpoints" / "one"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    install_tiny_model(home, "one", seed=8)
    measure([("pretrained/one", None)], wanted, "cpu")
    assert calls == [1, 1]
    assert len(results("pretrained/one", "questions")) == 2


def test_an_adapter_is_known_by_its_weights_and_its_base_s(home, asked):
    calls, _ = asked
    config = changed(short_training(home), num_iterations=2, method="lora", lora_rank=2, output_tag="adapted")
    name = f"finetuned/{finetune(config).tag}"
    wanted = Wanted(_questions(home, "x", "y"))
    [first] = measure([(name, None)], wanted, "cpu")
    assert measure([(name, None)], wanted, "cpu") == [first]
    assert calls == [2]
    own, base = (digest(find_model(one).weights) for one in (name, "pretrained/tiny"))
    assert first.questions["model_sha256"] == hashlib.sha256(f"{own}{base}".encode()).hexdigest()


def test_a_stop_keeps_the_replies_that_were_there(home, asked, monkeypatch):
    calls, _ = asked
    install_tiny_model(home, "one")
    wanted = Wanted(_questions(home, *"abcdef"), max_tokens=6)
    monkeypatch.setattr("nanochat_core.engine.engine.MAX_ROWS", 2)
    monkeypatch.setattr("nanochat_core.evaluation.meter.EVERY_SECONDS", 0.0)

    class Stopped(Exception):
        pass

    def stop(moment):
        if moment.fraction > 0.4:
            raise Stopped

    with pytest.raises(Stopped):
        measure([("pretrained/one", None)], wanted, "cpu", stop)
    assert results("pretrained/one") == []
    [whole] = measure([("pretrained/one", None)], wanted, "cpu")
    assert calls[0] == 6
    assert 0 < calls[1] < 6
    monkeypatch.setattr("nanochat_core.evaluation.measuring.known_replies", lambda *_: {})
    monkeypatch.setattr("nanochat_core.evaluation.measuring.kept", lambda path: None)
    [anew] = measure([("pretrained/one", None)], wanted, "cpu")
    assert whole.questions["answers"] == anew.questions["answers"]


def test_several_models_come_one_after_the_other_and_say_how_far_they_are(home, asked, monkeypatch):
    _, loaded = asked
    for tag, seed in (("one", 0), ("two", 3)):
        install_tiny_model(home, tag, seed=seed)
    monkeypatch.setattr("nanochat_core.evaluation.meter.EVERY_SECONDS", 0.0)
    wanted = Wanted(_questions(home, "x", "y"), str(write_conversations(home / "d.jsonl")))
    moments = []
    names = [("pretrained/one", None), ("pretrained/two", None)]
    first, second = measure(names, wanted, "cpu", moments.append)
    assert loaded == ["pretrained/one", "pretrained/two"]
    fractions = [moment.fraction for moment in moments]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any(str(moment).startswith("pretrained/two: question 1 of 2") for moment in moments)
    assert any(moment.seconds_left is not None for moment in moments)
    assert questions_proof(first.questions, second.questions)["verdict"].startswith("0 learnt, 0 lost")
    assert data_proof(first.data, second.data)["measure"] == "loss"


def test_what_of_the_conversations_is_not_read_is_said(home):
    install_tiny_model(home, "one")
    said = [("Hi", "word " * 30), ("word " * 50, "Yes."), ("Hi", "Yes.")]
    talks = [[{"role": "user", "content": asked}, {"role": "assistant", "content": told}] for asked, told in said]
    path = home / "d.jsonl"
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    [found] = measure([("pretrained/one", None)], Wanted(data=str(path), max_seq_len=20), "cpu")
    assert data_proof(found.data)["not_read"] == (
        "Of 3 conversations, read up to 20 tokens, 1 is cut off there and 1 with no answer by then is left out."
    )


def test_results_of_other_questions_or_conversations_are_not_compared(home):
    install_tiny_model(home, "one")
    name = ("pretrained/one", None)
    data = str(write_conversations(home / "d.jsonl"))
    [long], [short] = (measure([name], Wanted(data=data, max_seq_len=size), "cpu") for size in (60, 20))
    with pytest.raises(ValueError, match="same conversations to the same ends"):
        data_proof(long.data, short.data)
    assert "not_read" not in data_proof(long.data)
    [first] = measure([name], Wanted(_questions(home, "x")), "cpu")
    [second] = measure([name], Wanted(_questions(home, "y")), "cpu")
    with pytest.raises(ValueError, match="same questions"):
        questions_proof(first.questions, second.questions)
