"""The wheel in an environment and a folder of its own: the two commands, and where they put what they make."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from nanochat_core.paths import PROJECT_ROOT as ROOT
from tests.support.tiny import install_tiny_model, write_conversations

EXAMPLE = ["--data_path", "data/example_data.jsonl", "--questions_path", "data/example_questions.jsonl"]
SHORT = ["--model_tag", "starter", "--num_iterations", "2", "--eval_steps", "1"]
START_SECONDS = 240

pytestmark = pytest.mark.processes


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it, and a person who knows nothing of the checkout."""

    wheel: Path
    venv: Path
    person: Path
    """Their folder; the data folder lies in it."""

    @property
    def home(self) -> Path:
        return self.person / "data" / "nanochat-studio"

    def command(self, name: str) -> str:
        return str(self.venv / "bin" / name)

    @property
    def environment(self) -> dict[str, str]:
        foreign = ("NANOCHAT_STUDIO_HOME", "PYTHONPATH", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if name not in foreign}
        return {**kept, "HOME": str(self.person), "XDG_DATA_HOME": str(self.person / "data"), "HF_HUB_OFFLINE": "1"}

    def run(self, *command: str) -> str:
        """What a command prints, run in the person's folder. A failing one is shown."""
        done = subprocess.run(command, cwd=self.person, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, code: str) -> str:
        return self.run(self.command("python"), "-c", code)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel of this checkout, installed without the gigabytes that it needs: those of this Python are shared."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "-w", folder, ROOT], check=True)
    [wheel] = folder.glob("*.whl")
    venv, person = folder / "venv", folder / "person"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    subprocess.run([*pip, f"--python={python}", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    site = sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)})
    # An editable install in there stays out of sight: only an environment's own .pth files are read.
    shared = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    Path(site, "shared.pth").write_text("\n".join(shared))
    person.mkdir()
    return Installed(wheel, venv, person)


@pytest.fixture(scope="module")
def trained(installed):
    """What the first command printed: a training on the shipped example, in this terminal."""
    return installed.run(installed.command("nanochat"), "finetune", *EXAMPLE, *SHORT, "--output_tag", "first")


def test_the_wheel_holds_the_program_and_what_it_ships(installed):
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"nanochat_core", "studio"}
    for folder in ("nanochat_core", "studio"):
        ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {name for name in ours if "__pycache__" not in name} <= names
    for name in ("data/example_data.jsonl", "starter/model_004064.pt", "starter/NOTICE", "starter/replay.jsonl"):
        assert f"nanochat_core/shipped/{name}" in names
    assert not any("starter/words" in name or "starter/build" in name for name in names)
    assert installed.wheel.stat().st_size < 15e6


def test_its_code_and_not_the_checkouts_is_what_runs(installed):
    names = ("nanochat_core", "studio")
    places = json.loads(
        installed.python(f"import json; print(json.dumps([__import__(name).__file__ for name in {names}]))")
    )
    assert all(Path(place).is_relative_to(installed.venv) for place in places)
    paths = "from nanochat_core.paths import checkout, home; print(checkout(), home(), sep='|')"
    assert installed.python(paths).strip() == f"None|{installed.home}"


def test_finetuning_on_the_shipped_example(installed, trained):
    assert "step 2/2" in trained
    assert "New questions answered:" in trained
    run = installed.home / "models" / "finetuned" / "first"
    assert (run / "model_000002.pt").is_file()
    assert json.loads((run / "status.json").read_text())["state"] == "finished"


def test_a_run_in_processes_of_its_own_on_data_at_home(installed):
    nanochat = installed.command("nanochat")
    install_tiny_model(installed.home)
    data = write_conversations(installed.home / "mine.jsonl")
    named = ["--data_path", data.name, "--model_tag", "tiny", "--output_tag", "second"]
    installed.run(nanochat, "finetune", "--nproc", "1", *named)
    assert re.search(r"^second +finished", installed.run(nanochat, "runs", "list"), re.MULTILINE)


def test_chat_and_check(installed, trained):
    nanochat = installed.command("nanochat")
    assert installed.run(nanochat, "chat", "--model", "finetuned/first", "-p", "Hello!", "--max_tokens", "8").strip()
    assert installed.run(nanochat, "chat", "-p", "What is the capital of France?", "--temperature", "0").strip()
    assert json.loads(installed.run(nanochat, "check", "data/example_data.jsonl", "--json"))["verdict"] == "accept"


def test_a_rented_machine_gets_the_installed_code(installed):
    code = """
from nanochat_core import FinetuneConfig
from nanochat_core.remote.inputs import base_model, code_files
files = {**code_files(), **base_model(FinetuneConfig("-", model_tag="starter")).files}
assert all(path.is_file() for path in files.values())
print("\\n".join(files))
"""
    sent = installed.python(code).split()
    for ending in ("*.py", "*.[ch]"):
        ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nanochat_core").rglob(ending)}
        assert {f"code/{name}" for name in ours} <= set(sent)
    assert {"code/starter/model_004064.pt", "code/starter/tokenizer.pkl"} <= set(sent)


def test_the_app_starts_answers_and_keeps_what_is_made_in_the_data_folder(installed, trained):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = installed.person / "app.log"
    with log.open("wb") as output:
        app = subprocess.Popen(
            [installed.command("nanochat-studio"), "--port", str(port)],
            cwd=installed.person,
            env=installed.environment,
            stdout=output,
            stderr=output,
        )
    try:
        page = _answer(app, f"http://127.0.0.1:{port}/config", log)
        assert "example_data.jsonl (example)" in page
        assert f"kept in {installed.home}." in log.read_text()
    finally:
        app.send_signal(signal.SIGTERM)
        app.wait(60)
    assert not list(installed.person.glob("*.jsonl"))
    assert {path.name for path in installed.person.iterdir()} <= {"data", "app.log", ".cache", ".config"}


def _answer(app: subprocess.Popen, url: str, log: Path) -> str:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit and app.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(log.read_text())
