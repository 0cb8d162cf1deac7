"""The rules of the layout, read from the imports themselves: which half may use which, and nothing on import."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from nanochat_core.token_cache import _SOURCES

ROOT = Path(__file__).parent.parent
CORE = ROOT / "nanochat_core"
PLAIN = {
    "config",
    "conversations",
    "data_worker",
    "token_cache",
    "tokenizer",
    "runs",
    "launcher",
    "hub",
    "paths",
    "files",
    "presets",
    "repair",
    "importers",
    "calculator",
    "following",
    "failures",
    "processes",
    "orphans",
    "remote_job",
    "remote_watch",
    "remote_sync",
    "remote_run",
    "jobs",
    "stop_strings",
    "foreign_requests",
    "chat_response",
    "chat_request",
    "api_errors",
    "export_tokenizer",
    "chat_template",
    "display",
    "notebook_export",
    "plotting",
    "progress",
}
TENSOR_PACKAGES = {"torch", "transformers", "safetensors"}


def _imports(path: Path, at_module_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_module_level else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@cache
def _core_imports(name: str) -> set[str]:
    prefix = "nanochat_core."
    modules = {path.stem for path in CORE.glob("*.py")}
    imported = {found.removeprefix(prefix).split(".")[0] for found in _imports(CORE / f"{name}.py") if prefix in found}
    return imported & modules


def _reachable(name: str) -> set[str]:
    seen, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += _core_imports(current)
    return seen


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda path: path.stem)
def test_the_engine_room_knows_no_app(path):
    assert not {name.split(".")[0] for name in _imports(path)} & {"gradio", "studio", "app"}


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_the_plain_half_reaches_no_tensors(name):
    for module in _reachable(name):
        packages = {found.split(".")[0] for found in _imports(CORE / f"{module}.py")}
        assert not packages & TENSOR_PACKAGES, f"{name} reaches {module}"


def test_tokens_are_kept_until_code_that_decides_them_changes():
    only_helpers = {"detached", "files", "markup", "native", "paths", "processes", "run_status"}
    decide = {f"{name}.py" for name in _reachable("data_survey") - only_helpers} | {"token_file.py"}
    waiting, compiled = ["tokenize.c"], set()
    while waiting:
        compiled.add(waiting.pop())
        text = "".join((CORE / "c" / name).read_text(encoding="utf-8") for name in compiled)
        waiting = [name for name in re.findall(r'^#include "(.+)"', text, re.MULTILINE) if name not in compiled]
    assert set(_SOURCES) == decide | {f"c/{name}" for name in compiled}


def test_no_cycles():
    for path in CORE.glob("*.py"):
        for imported in _core_imports(path.stem) - {path.stem}:
            assert path.stem not in _reachable(imported), f"{path.stem} and {imported} import each other"


def test_importing_the_plain_half_loads_no_torch_and_writes_nothing(tmp_path):
    code = f"import sys\nfor name in {sorted(PLAIN)}: __import__('nanochat_core.' + name)\n"
    code += "assert 'torch' not in sys.modules"
    environment = {**os.environ, "NANOCHAT_STUDIO_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda path: path.stem)
def test_every_file_says_its_idea_first_and_stays_short(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), path
    assert len(text.splitlines()) <= 340, path
