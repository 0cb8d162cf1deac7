"""What comes in and goes out at the command line: odd values, odd terminals, errors of the system, Ctrl-C."""

import errno
import json
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from nanochat_core.cli import main as entry
from nanochat_core.cli.finetune import without_effect
from nanochat_core.cli.main import main
from nanochat_core.cli.terminal import parse
from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.launcher import create_run
from tests.support.samples import assistant, line, user
from tests.support.tiny import write_conversations

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), "/x/y: Read-only file system. Check the path"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/x"), "/x: Is a directory. Check the path"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "/x: No space left on device. Free some space"),
        (ConnectionError("Couldn't reach the hub"), "Couldn't reach the hub. Check the disk and the network"),
    ],
)
def test_an_error_of_the_system_is_a_sentence(monkeypatch, capsys, error, said):
    def refuse(arguments):
        raise error

    monkeypatch.setattr(entry, "_command", lambda name: refuse)
    assert main(["models"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "--model", "starter", "--questions", "x", "--compare", ""],
        ["report", "--run", "mine", "--compare", "", "x.html"],
        ["check", "x.jsonl", "--fix", ""],
        ["finetune", "--data_path", "x", "--questions_path", ""],
    ],
)
def test_an_empty_value_is_not_passed_over(home, capsys, arguments):
    assert main(arguments) == 2
    assert f"{arguments[arguments.index('') - 1]} is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--lora_rank", "8", "--lora-lr=0.1"], ["lora_lr, lora_rank: without effect, the method is full."]),
        (["--method", "lora", "--matrix_lr", "0.1"], ["matrix_lr: without effect, the method is lora."]),
        (["--replay_path", "x.jsonl"], ["replay_path: without effect, replay_ratio is 0."]),
        (["--method", "lora", "--lora_rank", "8", "--weight_decay", "0.1"], []),
        (["--replay_path", "x.jsonl", "--replay_ratio", "1"], []),
    ],
)
def test_a_setting_without_effect_is_said(given, said):
    arguments = ["--data_path", "x", *given]
    found = without_effect(arguments, parse(FinetuneConfig, arguments, "finetune"))
    assert [sentence.split(" Give")[0] for sentence in found] == said


def test_a_file_that_looks_like_an_option_is_named_with_the_remedy(home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    write_conversations(home / "-mine.jsonl", 3)
    with pytest.raises(SystemExit):
        main(["check", "-mine.jsonl"])
    assert "Write ./-mine.jsonl for the file." in capsys.readouterr().err
    assert main(["check", "./-mine.jsonl"]) == 0


@pytest.mark.processes
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_terminal_gets_the_whole_answer(home, encoding):
    data = home / "mine.jsonl"
    data.write_text(line(user("a"), assistant("“Tea” ☕ and cake 👩")) + "\n" + line(user("a"), assistant("b")) + "\n")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "NANOCHAT_STUDIO_HOME": str(home)}
    for more in ([], ["--json"]):
        command = [sys.executable, "-m", "nanochat_core", "review", str(data), *more]
        found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
        assert found.returncode == 0, found.stderr
        assert b"Tea" in found.stdout
        if more:
            assert "☕" in json.dumps(json.loads(found.stdout), ensure_ascii=False)


def test_an_interrupt_while_a_command_is_still_loaded_is_no_traceback(monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry.importlib, "import_module", interrupted)
    assert main(["chat"]) == 130


def test_the_commands_that_are_installed_are_there():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts["nanochat"] == "nanochat_core.__main__:main"
    assert import_module("nanochat_core.__main__").main(["--help"]) == 0


def test_a_run_that_has_learnt_nothing_is_not_traced_and_a_foreign_record_is_named(home, capsys):
    run = create_run(FinetuneConfig(str(write_conversations(home / "mine.jsonl", 4)), output_tag="mine"))
    assert main(["trace", "--run", "mine", "hello"]) == 2
    assert "Run 'mine' has not trained on a row yet" in capsys.readouterr().err
    run.config_file.write_text('{"settings": {"data_path": "x", "of_tomorrow": 1}}')
    assert main(["runs", "resume", "mine"]) == 2
    assert f"{run.config_file} cannot be used: There is no setting of_tomorrow: " in capsys.readouterr().err


def test_a_run_whose_data_has_changed_is_not_sent_into_the_background(home, capsys):
    data = write_conversations(home / "mine.jsonl", 4)
    run = create_run(FinetuneConfig(str(data), output_tag="mine"))
    write_conversations(data, 5)
    assert main(["runs", "resume", "mine"]) == 2
    said = f"The data file {data} has changed since run 'mine' was made, and the run has no copy of it."
    assert said in capsys.readouterr().err
    assert not run.launch_file.exists()
