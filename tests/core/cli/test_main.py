"""The command line as a person uses it: real processes, what they print, and their exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat_core import FinetuneConfig
from nanochat_core.cli.finetune import base_name
from nanochat_core.cli.main import main
from nanochat_core.cli.terminal import parse
from nanochat_core.runs.launcher import create_run
from tests.support.tiny import install_tiny_model, write_conversations

ROOT = Path(__file__).parents[3]


def _run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nanochat_core", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input=stdin, check=False)


def test_check_prints_a_report_and_its_verdict(home, capsys):
    good = write_conversations(home / "good.jsonl", 3)
    bad = home / "bad.jsonl"
    bad.write_text(good.read_text() + '{"messages": [}\n')
    install_tiny_model(home, "d32")
    assert main(["check", str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"verdict": "accept", "conversations": 3, "problems": []}
    assert main(["check", str(bad), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "reject"
    assert report["problems"][0]["line"] == 4
    assert set(report["problems"][0]) == {"line", "level", "message", "fix"}
    assert main(["check", str(bad)]) == 1
    assert "4" in capsys.readouterr().out


def test_check_fix_writes_a_copy_that_passes(home, capsys):
    install_tiny_model(home, "d32")
    share = home / "share.jsonl"
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    share.write_text(json.dumps({"conversations": turns}) + "\n")
    assert main(["check", str(share)]) == 1
    assert "ShareGPT" in capsys.readouterr().out
    out = home / "fixed.jsonl"
    assert main(["check", str(share), "--fix", str(out)]) == 0
    assert json.loads(out.read_text())["messages"][0] == {"role": "user", "content": "hi"}
    assert main(["check", str(share), "--fix", str(out)]) == 2  # never overwrites


@pytest.mark.processes
def test_one_question_is_answered_and_nothing_else_is_printed(home):
    install_tiny_model(home)
    process = _run("chat", "--model", "pretrained/tiny", "-p", "hello", "--max-tokens", "5", "--temperature", "0")
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip()
    again = _run("chat", "--model", "pretrained/tiny", "--max_tokens", "5", "--temperature", "0", stdin="hello\n\n")
    assert again.stdout.replace("> ", "").strip() == process.stdout.strip()


def test_models_and_runs_are_listed(home, capsys):
    install_tiny_model(home)
    data = write_conversations(home / "data.jsonl")
    run = create_run(FinetuneConfig(str(data), output_tag="mine"))
    assert main(["models"]) == 0
    assert "pretrained/tiny" in capsys.readouterr().out
    assert main(["runs", "list"]) == 0
    assert "mine" in capsys.readouterr().out
    assert main(["runs", "show", "mine"]) == 0
    assert "num_epochs = 1" in capsys.readouterr().out
    run.write_status(warning="The loss rises.")
    assert main(["runs", "show", "mine"]) == 0
    assert "warning: The loss rises." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs", "show", "none"], "There is no run 'none'"),
        (["runs", "show"], "needs the name of a run"),
        (["runs", "delete", "x"], "There is no action 'delete'"),
        (["chat", "--model", "pretrained/none"], "There is no model 'pretrained/none'"),
        (["check", "missing.jsonl"], "missing.jsonl"),
        (["finetune", "--data_path", "x.jsonl", "--num_epochs", "0"], "num_epochs is 0"),
        (["finetune", "--data_path", "x.jsonl", "--nproc", "many"], "--nproc is 'many'"),
        (["finetune", "--data_path", "x.jsonl", "--from_finetuned", "none"], "There is no run 'none'"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(home, capsys, arguments, said):
    assert main(arguments) in (1, 2) if arguments[0] == "check" else main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err + captured.out
    assert "Traceback" not in captured.err


def test_an_unknown_command_lists_the_known_ones(capsys):
    assert main(["frobnicate"]) == 2
    assert "There is no command 'frobnicate'" in capsys.readouterr().err
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert "finetune" in capsys.readouterr().out


def test_underscore_and_dash_are_the_same():
    parsed = [
        parse(FinetuneConfig, flags, "finetune")
        for flags in (["--data_path", "x", "--num_epochs", "3"], ["--data-path=x", "--num-epochs=3"])
    ]
    assert parsed[0] == parsed[1] == FinetuneConfig("x", num_epochs=3)
    for flag in ("--from_finetuned", "--from-finetuned"):  # also where the base decides the defaults
        assert base_name([flag, "mine"]) == base_name([f"{flag}=mine"]) == "finetuned/mine"


def test_a_run_that_came_to_nothing_leaves_its_name_free(home, capsys):
    install_tiny_model(home)
    data = home / "data.jsonl"
    data.write_text("not json\n")
    flags = ["finetune", "--data_path", str(data), "--model_tag", "tiny", "--num_iterations", "1"]
    assert main(flags) == 2
    assert capsys.readouterr().err.startswith("Error: ")
    write_conversations(data)
    assert main(flags) == 0
    assert main(flags) == 2
    assert "already a run 'finetuned'" in capsys.readouterr().err
