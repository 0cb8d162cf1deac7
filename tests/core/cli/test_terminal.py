"""Text of models, datasets and the hub does not steer the terminal."""

import json
import re
from types import SimpleNamespace

import pytest

from nanochat_core.cli import chat
from nanochat_core.cli.main import main
from nanochat_core.engine.reply import Text
from nanochat_core.hub.downloading import RepositorySize
from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.runs.launcher import create_run
from tests.support.tiny import install_tiny_model, write_conversations

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\x08"


def is_quiet(text):
    """True when nothing of HOSTILE that steers is left."""
    return not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_a_models_reply_cannot_steer_the_terminal(home, capsys, monkeypatch):
    install_tiny_model(home, "d32")
    pieces = [Text("one\x1b"), Text(f"[2J{HOSTILE}two\n\tthree 👨\u200d👩\u200d👧")]
    engine = SimpleNamespace(events=lambda *_: iter(pieces))
    monkeypatch.setattr(chat, "Engine", lambda *_: engine)
    assert main(["chat", "-p", "hello"]) == 0
    out = capsys.readouterr().out
    assert is_quiet(out)
    assert out.endswith("two\n\tthree 👨\u200d👩\u200d👧\n")


def test_a_dataset_and_a_file_name_cannot(home, capsys):
    path = home / f"a{HOSTILE}b.jsonl"
    assert main(["check", str(path)]) == 2
    path.write_text(json.dumps({"messages": [{"role": HOSTILE, "content": HOSTILE}], HOSTILE: 1}) + "\n")
    main(["check", str(path)])
    main(["check", str(path), "--fix", str(home / "new.jsonl")])
    said = capsys.readouterr()
    assert said.out + said.err
    assert is_quiet(said.out + said.err)


def test_a_runs_log_and_status_cannot(home, capsys):
    from nanochat_core import FinetuneConfig

    run = create_run(FinetuneConfig(data_path=str(write_conversations(home / "a.jsonl", 3)), output_tag="mine"))
    run.write_status(state="finished", error=HOSTILE, remedy=HOSTILE, warning=HOSTILE)
    run.log_file.write_text(f"step 1\n{HOSTILE}\n")
    assert main(["runs", "show", "mine"]) in (0, 1)
    said = capsys.readouterr()
    assert "step 1" in said.out
    assert is_quiet(said.out + said.err)


def test_the_hubs_file_names_cannot():
    assert is_quiet(RepositorySize("me/x", "sft", ((f"{HOSTILE}.pt", 1),)).summary())


@pytest.mark.parametrize(
    "path", sorted((PROJECT_ROOT / "nanochat_core" / "cli").glob("*.py")), ids=lambda path: path.stem
)
def test_commands_print_through_one_door(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if re.search(r"(?<![\w.])print\(", line)]
    allowed = ("json.dumps", "_usage()", "for_terminal(")  # data for programs, and words of our own
    assert [line for line in lines if not any(word in line for word in allowed)] == []
