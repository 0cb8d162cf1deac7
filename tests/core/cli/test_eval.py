"""The command `eval`: its figures are those of the training, they are kept with the run, mistakes are sentences."""

import json

import pytest

from nanochat_core.cli.main import main
from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import find_model
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
    assert shown["losses"]["validation.jsonl"]["loss"] == pytest.approx(run.status().val_loss, rel=1e-3)
    assert (shown["questions"]["questions.jsonl"]["correct"], shown["step"]) == (0, find_model("finetuned/mine").step)
    kept = run.evals_dir / f"step_{shown['step']:06d}.json"
    assert json.loads(kept.read_text()) == shown
    assert main([*command, "--max-seq-len", "64"]) == 0
    said = capsys.readouterr().out
    assert "questions.jsonl: 0 of 1 answered (0.0%)" in said
    assert "bits a byte" in said


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
