"""The rules of the layout, read from the imports themselves: which half may use which, and nothing on import."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from nanochat_core.data.tokens.cache import _SOURCES

ROOT = Path(__file__).parent.parent
CORE = ROOT / "nanochat_core"
PLAIN = ("calculator", "config", "paths", "system", "native", "tokenizer", "show", "data", "runs", "hub", "remote")
"""What never loads torch, at any depth: modules and packages."""
STARTS_PROCESSES = ("torch.distributed.elastic", "torch.distributed.launcher")
"""torchrun, which the supervisor of a run is; it imports this when it starts the ranks."""
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


def _name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


MODULES = {_name(path): path for path in sorted(CORE.rglob("*.py"))}
"""Every module of nanochat_core -> its file."""


def _plain_modules() -> list[str]:
    prefixes = tuple(f"nanochat_core.{name}." for name in PLAIN)
    found = [name for name in MODULES if f"{name}.".startswith(prefixes)]
    assert len(found) > 60
    return found


@cache
def _core_imports(name: str) -> set[str]:
    """The modules that `name` imports, and the packages in which they lie."""
    found = {imported for imported in _imports(MODULES[name]) if imported in MODULES} - {"nanochat_core"}
    return found - {name}


def _reachable(name: str) -> set[str]:
    seen, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += _core_imports(current)
    return seen


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_the_engine_room_knows_no_app(path):
    assert not {name.split(".")[0] for name in _imports(path)} & {"gradio", "studio", "app"}


@pytest.mark.parametrize("name", _plain_modules())
def test_the_plain_half_reaches_no_tensors(name):
    for module in _reachable(name):
        imported = _imports(MODULES[module])
        packages = {found.split(".")[0] for found in imported if not found.startswith(STARTS_PROCESSES)}
        assert not packages & TENSOR_PACKAGES, f"{name} reaches {module}"


def test_tokens_are_kept_until_code_that_decides_them_changes():
    only_helpers = ("paths", "system", "native", "show", "runs")
    reached = _reachable("nanochat_core.data.survey") | {"nanochat_core.data.tokens.file"}
    files = {MODULES[name].relative_to(CORE).as_posix() for name in reached}
    decide = {file for file in files if not file.endswith("__init__.py") and not file.startswith(only_helpers)}
    waiting, compiled = ["tokenize.c"], set()
    while waiting:
        compiled.add(waiting.pop())
        text = "".join((CORE / "native" / "c" / name).read_text(encoding="utf-8") for name in compiled)
        waiting = [name for name in re.findall(r'^#include "(.+)"', text, re.MULTILINE) if name not in compiled]
    assert set(_SOURCES) == decide | {f"native/c/{name}" for name in compiled}


def test_no_cycles():
    for name in MODULES:
        for imported in _core_imports(name):
            assert name not in _reachable(imported), f"{name} and {imported} import each other"


def test_importing_the_plain_half_loads_no_torch_and_writes_nothing(tmp_path):
    code = f"import sys\nfor name in {_plain_modules()}: __import__(name)\n"
    code += "assert 'torch' not in sys.modules"
    environment = {**os.environ, "NANOCHAT_STUDIO_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_every_file_says_its_idea_first_and_stays_short(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), path
    assert len(text.splitlines()) <= 340, path
