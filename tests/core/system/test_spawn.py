"""Every child process is started in one way, and finds the home folder and our modules wherever it works."""

import re
import subprocess
import sys

import pytest

from nanochat_core.paths import PROJECT_ROOT, home
from nanochat_core.system.spawn import collect, spawn

pytestmark = pytest.mark.processes

TELL = "import os; from nanochat_core.paths import home; print(home(), os.getcwd(), os.getsid(0), os.environ.get('X'))"


def told(folder, **variables):
    process = spawn([sys.executable, "-c", TELL], variables, folder=folder, stdout=subprocess.PIPE)
    words = process.communicate()[0].decode().split()
    return process, words


@pytest.mark.parametrize("there", [False, True])
def test_a_relative_home_means_the_same_folder_in_a_child(tmp_path, monkeypatch, there):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "nanochat_core.py").write_text("1 / 0")  # a file that is there by chance is not our package
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NANOCHAT_STUDIO_HOME", "mine")
    folder = tmp_path / "elsewhere" if there else None
    process, words = told(folder)
    assert words[:2] == [str(home()), str(folder or tmp_path)]
    assert words[2] == str(process.pid), "a session of its own"


def test_variables_are_added_and_taken_out(monkeypatch):
    monkeypatch.setenv("X", "ours")
    assert told(None)[1][3] == "ours"
    assert told(None, X="theirs")[1][3] == "theirs"
    assert told(None, X=None)[1][3] == "None"


SECRETS = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "OAUTH_CLIENT_SECRET",
    "NANOCHAT_STUDIO_AUTH",
    "WANDB_API_KEY",
    "X_KEY",
]
PLAIN = ["TOKENIZERS_PARALLELISM", "HTTPS_PROXY", "SSH_AUTH_SOCK", "KEYBOARD", "AUTHOR"]


@pytest.mark.parametrize("secrets", [False, True])
def test_secrets_reach_only_a_child_that_needs_them(monkeypatch, secrets):
    for name in (*SECRETS, *PLAIN):
        monkeypatch.setenv(name, "hidden")
    command = [sys.executable, "-c", "import os; print(*[n for n, v in os.environ.items() if v == 'hidden'])"]
    process = spawn(command, secrets=secrets, stdout=subprocess.PIPE)
    found = process.communicate()[0].decode().split()
    assert set(found) == {*PLAIN, *(SECRETS if secrets else [])}


def test_only_what_talks_to_the_hub_gets_secrets():
    files = [path for folder in ("nanochat_core", "studio") for path in (PROJECT_ROOT / folder).rglob("*.py")]
    found = {path.name for path in files if re.search(r"\bsecrets=[^s]", path.read_text(encoding="utf-8"))}
    assert found == {"job_watcher.py", "outgoing.py", "apart.py", "jobs.py"}  # the last: what the hub keeps for a job


def test_a_collected_child_leaves_no_zombie():
    process = spawn([sys.executable, "-c", "pass"])
    collect(process)
    assert process.wait(30) == 0


def test_nothing_else_starts_a_process():
    files = [path for folder in ("nanochat_core", "studio") for path in (PROJECT_ROOT / folder).rglob("*.py")]
    found = [path.name for path in files if re.search(r"\bPopen\(", path.read_text(encoding="utf-8"))]
    assert found == ["spawn.py"]
