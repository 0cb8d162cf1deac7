"""lm-eval on our models: tasks of local JSONL give our own scores, and the texts come as in training."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch

from nanochat_core import load_model
from nanochat_core.cli.main import main
from nanochat_core.engine.engine import Engine
from nanochat_core.evaluation import harness
from nanochat_core.evaluation.answers import ask, evaluate
from nanochat_core.evaluation.harness import HarnessModel
from nanochat_core.evaluation.questions import Question
from nanochat_core.evaluation.results import results
from nanochat_core.paths import PROJECT_ROOT
from tests.support.forked_ranks import on_ranks
from tests.support.tiny import install_tiny_model, tiny_model, tiny_tokenizer

ASKED = ["hello", "the name", "three fruits", "what is <|bos|> in it?", "who would go?"]
CHOICES = ["the water", "a number of people", "fruits"]

_TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {file}
test_split: train
output_type: {kind}
doc_to_text: "{{{{question}}}}"
"""
_GENERATE = """
doc_to_target: "{{answer}}"
generation_kwargs:
  until: ["\\u0000"]
  max_gen_toks: 12
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
_CHOOSE = """
doc_to_target: "{{answer}}"
doc_to_choice: ["the water", "a number of people", "fruits"]
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
_ROLL = """
doc_to_target: "{{question}}"
metric_list:
  - metric: byte_perplexity
    aggregation: weighted_perplexity
    higher_is_better: false
"""


def _write(folder, name, kind, rest, rows):
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = _TASK.format(name=name, file=data, kind=kind) + rest
    if kind == "loglikelihood_rolling":
        task = task.replace('doc_to_text: "{{question}}"', 'doc_to_text: ""')
    (folder / f"{name}.yaml").write_text(task)


@pytest.fixture
def tasks(home, monkeypatch):
    """A folder with three tasks, and the questions of the first with which half of the answers are right."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")
    model, tokenizer, _ = load_model(f"pretrained/{install_tiny_model(home)}")
    asked = [Question([{"role": "user", "content": text}], ["?"]) for text in ASKED]
    replies = ask(model, tokenizer, asked, 12)
    wanted = [reply if number % 2 else "not this" for number, reply in enumerate(replies)]
    folder = home / "tasks"
    folder.mkdir()
    _write(
        folder,
        "mine_said",
        "generate_until",
        _GENERATE,
        [{"question": text, "answer": answer} for text, answer in zip(ASKED, wanted)],
    )
    _write(folder, "mine_chosen", "multiple_choice", _CHOOSE, [{"question": text, "answer": 1} for text in ASKED])
    _write(folder, "mine_rolled", "loglikelihood_rolling", _ROLL, [{"question": text * 40} for text in ASKED])
    own = [Question([{"role": "user", "content": text}], [answer], "exact") for text, answer in zip(ASKED, wanted)]
    return folder, evaluate(model, tokenizer, own, 12), model, tokenizer


def _nats(model, ids, begin):
    """Summed nats of ids[begin:], each after all that stand before it."""
    logits = torch.log_softmax(model(torch.tensor([ids[:-1]]))[0].double(), 1)
    return -sum(float(logits[place - 1, ids[place]]) for place in range(begin, len(ids)))


@pytest.mark.processes  # the harness asks git for a version
def test_tasks_of_local_files_give_our_own_scores(tasks, capsys):
    folder, own, model, tokenizer = tasks
    assert 0 < own.correct < own.total
    command = ["eval", "--model", "pretrained/tiny", "--device-type", "cpu", "--include-path", str(folder)]
    assert main([*command, "--tasks", "mine_said,mine_chosen,mine_rolled", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["tasks"]["model"]
    assert found["mine_said"]["exact_match"] == pytest.approx(own.accuracy)
    chosen = 0
    for text in ASKED:
        prompt = tokenizer.render_prompt([{"role": "user", "content": text}])
        nats = [_nats(model, prompt + tokenizer.encode(choice), len(prompt)) for choice in CHOICES]
        chosen += min(nats) == nats[1]
    assert found["mine_chosen"]["acc"] == pytest.approx(chosen / len(ASKED))
    [kept] = results("pretrained/tiny", "tasks")
    assert kept["tasks"]["mine_said"]["right"] == [answer.correct for answer in own.answers]
    nats, size = 0.0, 0
    for text in ASKED:
        ids, context = [tokenizer.bos, *tokenizer.encode(text * 40)], model.config.sequence_len
        size += len((text * 40).encode())
        nats += _nats(model, ids[: context + 1], 1)
        for start in range(context + 1, len(ids), context):  # windows that predict each token once
            window = ids[max(0, min(start + context, len(ids)) - context - 1) : start + context]
            nats += _nats(model, window, len(window) - len(ids[start : start + context]))
    assert found["mine_rolled"]["byte_perplexity"] == pytest.approx(math.exp(nats / size), rel=1e-5)


@pytest.mark.processes
def test_two_models_are_compared_sample_by_sample(tasks, home, capsys):
    folder, own, *_ = tasks
    install_tiny_model(home, "other", seed=9)
    command = ["eval", "--model", "pretrained/tiny", "--compare", "pretrained/other", "--device-type", "cpu"]
    assert main([*command, "--tasks", "mine_said", "--include_path", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"mine_said: {own.correct} learnt, 0 lost: too few questions to tell" in said


def test_a_chat_comes_as_in_training_and_no_text_becomes_a_token():
    tokenizer = tiny_tokenizer()
    harness = HarnessModel(tiny_model(), tokenizer)
    chat = [{"role": "user", "content": "what is <|bos|>?"}]
    text = harness.apply_chat_template(chat)
    context, continuation = harness._encode_pair(text, "the water")
    whole, mask = tokenizer.render_conversation([*chat, {"role": "assistant", "content": "the water"}], 1000)
    assert context + continuation == whole[:-1]  # but for the end of the reply
    assert [place for place, trained in enumerate(mask[:-1]) if trained] == list(range(len(context), len(whole) - 1))
    assert whole.count(tokenizer.bos) == 1
    assert harness.tok_encode(text) == context
    begun = harness.apply_chat_template([*chat, {"role": "assistant", "content": "the"}], add_generation_prompt=False)
    assert harness.tok_encode(begun) == [*context, *tokenizer.encode("the")]
    assert harness.tok_encode("water") == [tokenizer.bos, *tokenizer.encode("water")]
    assert harness.tok_encode("water", add_special_tokens=False) == tokenizer.encode("water")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--include_path", "gone"], "which is no folder"),
        (["--include_path", "."], "lm-eval has no task 'mine_gone'"),
    ],
)
def test_mistakes_are_one_sentence(home, tmp_path, monkeypatch, capsys, more, words):
    monkeypatch.chdir(tmp_path)
    install_tiny_model(home, "d32")
    assert main(["eval", "--tasks", "mine_gone", *more]) == 2
    assert words in capsys.readouterr().err


def test_without_the_package_it_is_said_how_to_install_it(home, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    install_tiny_model(home, "d32")
    assert main(["eval", "--tasks", "arc_easy"]) == 2
    assert "pip install 'nanochat-studio[lm-eval]'" in capsys.readouterr().err


@pytest.mark.processes
def test_two_processes_share_the_tasks_and_find_the_same_to_the_bit(tasks, tmp_path, monkeypatch):
    """Each has all results; what is asked of the model is asked of one of them."""
    folder, _, model, tokenizer = tasks
    names = ["mine_said", "mine_chosen", "mine_rolled"]

    def work(ranks):
        seen = [0, 0]
        generate, figures = Engine.generate_batch, harness.figures

        def generated(engine, prompts, *arguments, **more):
            seen[0] += len(prompts)
            return generate(engine, prompts, *arguments, **more)

        def counted(model, examples, token_bytes, ranks, size, beat):
            def count(done):
                seen[1] += done
                beat(done)

            return figures(model, examples, token_bytes, ranks, size, count)

        monkeypatch.setattr(Engine, "generate_batch", generated)
        monkeypatch.setattr(harness, "figures", counted)
        monkeypatch.setattr(harness, "BATCH", 4)
        found = harness.run_tasks(model, tokenizer, names, include_path=str(folder), ranks=ranks)
        return found, seen

    [(alone, all_work)] = on_ranks(1, tmp_path / "one", work)
    together = on_ranks(2, tmp_path / "two", work)
    assert together[0][0] == together[1][0] == alone
    assert set(alone) == set(names)
    works = [seen for _, seen in together]
    assert [sum(kind) for kind in zip(*works)] == all_work
    assert all(0 < share < whole for seen in works for share, whole in zip(seen, all_work))


@pytest.mark.processes
def test_a_prompt_that_one_process_cannot_take_ends_all(tasks, tmp_path):
    _, _, model, tokenizer = tasks

    def work(ranks):
        asked = HarnessModel(model, tokenizer, ranks=ranks)
        with pytest.raises(ValueError, match="must have 1 to"):
            asked._generated([[1], [], [1]], 2, 0.0)
        return True

    assert on_ranks(2, tmp_path / "two", work) == [True, True]


@pytest.mark.processes
def test_the_command_on_two_processes_says_what_it_says_on_one(tasks, home, capsys):
    """The harness gives its results to the first process alone."""
    folder, *_ = tasks
    command = ["eval", "--model", "pretrained/tiny", "--device-type", "cpu", "--include-path", str(folder)]
    command += ["--tasks", "mine_said,mine_chosen", "--json"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, "-m", "nanochat_core", *command],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "HF_DATASETS_CACHE": str(home / "datasets")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,  # only there to end a broken test
    )
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    [kept] = results("pretrained/tiny", "tasks")
    assert main(command) == 0
    assert json.loads(line) == json.loads(capsys.readouterr().out)
    [again] = results("pretrained/tiny", "tasks")
    assert kept["tasks"] == again["tasks"]
