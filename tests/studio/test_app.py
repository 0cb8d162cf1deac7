"""The app as a whole, without a browser: flags, layout, what it imports, and what it offers to scripts."""

import ast
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from studio import __main__ as program

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "studio").glob("*.py"))

LAYOUT = """
import json, sys
from studio import __main__ as program
from studio.app import build_app
config = build_app("train").get_config_file()
ids = [part["props"].get("elem_id") for part in config["components"]]
print(json.dumps({
    "torch": "torch" in sys.modules,
    "tabs": [part["props"]["label"] for part in config["components"] if part["type"] == "tabitem"],
    "selected": [part["props"]["selected"] for part in config["components"] if part["type"] == "tabs"],
    "public": [d["api_name"] for d in config["dependencies"] if d["api_visibility"] == "public" and d["backend_fn"]],
    "twice": sorted({i for i in ids if i and ids.count(i) > 1}),
}))
"""


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """The page as the browser gets it, built in a process of its own."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "NANOCHAT_STUDIO_HOME": str(home), "GRADIO_ANALYTICS_ENABLED": "False"}
    done = subprocess.run([sys.executable, "-c", LAYOUT], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert list(home.iterdir()) == []  # building the page writes nothing
    return json.loads(done.stdout.splitlines()[-1])


def test_the_page(layout):
    assert layout["tabs"] == ["Data", "Train", "Evaluate", "Chat"]
    assert layout["selected"] == ["train"]
    assert layout["twice"] == []


def test_building_the_page_loads_no_torch(layout):
    assert not layout["torch"]


def test_the_page_s_own_events_are_no_interface_for_scripts(layout):
    assert layout["public"] == []


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_the_app_says_its_idea_first_and_stays_short(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 320
    assert not {name.split(".")[0] for name in _imports(path)} & {"torch", "transformers", "safetensors"}


def test_the_program_imports_only_the_app():
    foreign = {name.split(".")[0] for name in _imports(ROOT / "app.py")} - sys.stdlib_module_names
    assert foreign == {"studio"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--auth", "nobody"], "--auth"),
        (["--auth", ":secret"], "--auth"),
        (["--port", "0"], "no port"),
        (["--port", "70000"], "no port"),
        (["--host", "no.such.host.invalid"], "cannot be used"),
    ],
)
def test_a_wrong_flag_is_one_sentence_and_status_2(arguments, said, capsys):
    assert program.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_port_in_use_is_one_sentence_and_status_2(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert program.main(["--port", str(other.getsockname()[1])]) == 2
    error = capsys.readouterr().err
    assert "another port" in error
    assert len(error.splitlines()) == 1
