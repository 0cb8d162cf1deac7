"""The command `eval`: its figures are those of the training, they are kept with the run, mistakes are sentences."""

import json
import os
import subprocess
import sys

import pytest

from nanochat_core.checkpoint.loading import load_model
from nanochat_core.cli.main import main
from nanochat_core.config import FinetuneConfig
from nanochat_core.engine.engine import Engine
from nanochat_core.evaluation.results import results
from nanochat_core.paths import PROJECT_ROOT, find_model
from nanochat_core.runs.run import Run
from nanochat_core.training.finetune import finetune
from tests.support.tiny import install_tiny_model, write_conversations


@pytest.fixture
def questions(home):
    path = home / "questions.jsonl"
    path.write_text('{"question": "hello", "expected": ["\\u0001 never said"]}\n')
    return str(path)


def test_the_loss_of_a_run_is_the_one_that_its_training_measured(home, questions, capsys):
    data = write_conversations(home / "mine.jsonl", 12)
    tag = install_tiny_model(home)
    finetune(
        FinetuneConfig(
            str(data),
            model_tag=tag,
            output_tag="mine",
            device_type="cpu",
            dtype="float32",
            max_seq_len=64,
            val_split=0.5,
            split="tail",
        )
    )
    validation = home / "validation.jsonl"
    validation.write_text("\n".join(data.read_text().splitlines()[6:]) + "\n")
    capsys.readouterr()
    command = ["eval", "--model", "finetuned/mine", "--data-path", str(validation), "--questions", questions]
    assert main([*command, "--max-seq-len", "64", "--json", "--device-type", "cpu"]) == 0
    shown = json.loads(capsys.readouterr().out)
    run = Run.open("mine")
    # A checkpoint holds the embeddings in bf16, as nanochat does, so the last digits differ.
    assert shown["data"]["model"]["loss"] == pytest.approx(run.status().val_loss, rel=1e-3)
    assert shown["questions"] == {"model": {"correct": 0, "total": 1}}
    steps = {(result["kind"], result["step"]) for result in results("finetuned/mine")}
    assert steps == {("questions", find_model("finetuned/mine").step), ("data", find_model("finetuned/mine").step)}
    assert main([*command, "--max-seq-len", "64"]) == 0
    said = capsys.readouterr().out
    assert "finetuned/mine: 0 of 1 answered (0.0%)" in said
    assert "bits per byte" in said


def test_two_models_are_compared_in_pairs(home, capsys):
    for tag, seed in (("one", 0), ("two", 3)):
        install_tiny_model(home, tag, seed=seed)
    data = write_conversations(home / "data.jsonl", 20)
    asked = [[{"role": "user", "content": text}] for text in ("hello", "the name", "three fruits")]
    replies = {}
    for tag in ("one", "two"):
        model, tokenizer, _ = load_model(f"pretrained/{tag}")
        replies[tag] = [Engine(model, tokenizer).reply(each, max_tokens=64, temperature=0.0) for each in asked]
    wanted = [replies["one"][0], replies["two"][1], "neither"]
    rows = [{"messages": each, "expected": [text], "match": "exact"} for each, text in zip(asked, wanted)]
    (home / "q.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    command = ["eval", "--model", "pretrained/one", "--compare", "pretrained/two", "--device-type", "cpu"]
    command += ["--questions", str(home / "q.jsonl"), "--data_path", str(data)]
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["questions"] == {
        "model": {"correct": 1, "total": 3},
        "compare": {"correct": 1, "total": 3},
        "learnt": [1],
        "lost": [2],
        "p": 1.0,
        "verdict": "1 learnt, 1 lost: too few questions to tell (p = 1).",
    }
    told = shown["data"]
    assert told["difference"] == pytest.approx(told["model"]["loss"] - told["compare"]["loss"])
    assert told["interval"][0] < told["difference"] < told["interval"][1]
    assert 0 < told["p"] <= 1
    assert set(told["model"]) == {"loss", "bits_per_byte", "token_accuracy"}
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "Learnt:\n  1. hello" in said
    assert "Lost:\n  2. the name" in said
    assert told["verdict"] in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to evaluate"),
        (["--questions", "gone.jsonl"], "gone.jsonl"),
        (["--data_path", "gone.jsonl"], "gone.jsonl"),
        (["--questions", "data/example_questions.jsonl", "--model", "pretrained/none"], "pretrained/none"),
    ],
)
def test_mistakes_are_one_sentence(home, capsys, arguments, words):
    install_tiny_model(home, "d32")
    assert main(["eval", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.processes
def test_two_processes_share_the_work_and_say_the_same(home, capsys):
    install_tiny_model(home)
    rows = [{"question": f"hello {number}?", "expected": ["the"]} for number in range(5)]
    (home / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = write_conversations(home / "data.jsonl", 11)
    command = ["eval", "--model", "pretrained/tiny", "--questions", str(home / "q.jsonl"), "--data_path", str(data)]
    command += ["--device-type", "cpu", "--json"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, "-m", "nanochat_core", *command],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,  # only there to end a broken test
    )
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()  # rank 0 alone speaks
    together = json.loads(line)
    for result in (home / "models" / ".evals").iterdir():
        result.unlink()
    assert main(command) == 0
    alone = json.loads(capsys.readouterr().out)
    assert together["questions"] == alone["questions"]
    assert together["data"]["model"] == pytest.approx(alone["data"]["model"], abs=1e-6)
