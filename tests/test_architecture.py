"""The rules of the layout: import-linter holds the layers, what it cannot see is read from the files themselves."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

from nanochat_core.data.tokens.cache import _SOURCES

ROOT = Path(__file__).parent.parent
CORE = ROOT / "nanochat_core"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = {contract["id"]: contract for contract in PYPROJECT["tool"]["importlinter"]["contracts"]}
FILES = [path for folder in ("nanochat_core", "studio") for path in sorted((ROOT / folder).rglob("*.py"))]
FOLDERS = {".ci", "benchmarks", "data", "docs", "nanochat_core", "notebooks", "starter", "studio", "tests"}
AT_TOP = {".gitignore", ".pre-commit-config.yaml", "ARCHITECTURE.md", "CONTRIBUTING.md", "LICENSE", "Makefile"}
AT_TOP |= {"README.md", "SECURITY.md", "app.py", "pyproject.toml", "requirements.txt"}
IN_CORE = {"__init__.py", "__main__.py", "calculator.py", "config.py", "paths.py"}

BROKEN = {
    "core-layers": ("nanochat_core/hub/files.py", "nanochat_core.engine.engine"),
    "core-plain": ("nanochat_core/system/words.py", "torch"),
    "core-knows-no-app": ("nanochat_core/serve/http.py", "gradio"),
    "no-circles": ("nanochat_core/engine/sampling.py", "nanochat_core.engine.engine"),
    "studio-layers": ("studio/parts/html.py", "studio.runs.queue"),
    "studio-no-torch": ("studio/runs/queue.py", "nanochat_core.model.gpt"),
    "tabs": ("studio/chat_tab/state.py", "studio.data_tab.view"),
}
"""Contract -> a file and the import, inside a function of it, that breaks the contract."""


def _names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if (ROOT / name).is_file()]


def _plain_modules() -> list[str]:
    """Every module that never loads torch: those of the contract's packages."""
    prefixes = tuple(f"{name}." for name in CONTRACTS["core-plain"]["source_modules"])
    names = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in _names(FILES)]
    found = [name for name in names if f"{name}.".startswith(prefixes)]
    assert len(found) > 60
    return found


@pytest.mark.processes
@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_broken_layer_is_found(contract, tmp_path):
    for path in FILES:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file, imported = BROKEN[contract]
    with (tmp_path / file).open("a", encoding="utf-8") as broken:
        broken.write(f"\n\ndef _broken() -> None:\n    import {imported}\n")
    lint = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache", "--contract", contract]
    found = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "Contracts: 0 kept, 1 broken." in found.stdout
    assert re.search(rf"\.{Path(file).stem} -> .*{imported.split('.')[-1]}", found.stdout)


def test_tokens_are_kept_until_code_that_decides_them_changes():
    graph = grimp.build_graph("nanochat_core", exclude_type_checking_imports=True, cache_dir=None)
    only_helpers = ("paths", "system", "native", "show", "runs", "__init__")
    reached = {"nanochat_core.data.survey", "nanochat_core.data.tokens.file"}
    reached |= graph.find_upstream_modules("nanochat_core.data.survey")
    modules = {name.removeprefix("nanochat_core.").replace(".", "/") + ".py" for name in reached}
    decide = {file for file in modules if (CORE / file).is_file() and not file.startswith(only_helpers)}
    waiting, compiled = ["tokenize.c"], set()
    while waiting:
        compiled.add(waiting.pop())
        text = "".join((CORE / "native" / "c" / name).read_text(encoding="utf-8") for name in compiled)
        waiting = [name for name in re.findall(r'^#include "(.+)"', text, re.MULTILINE) if name not in compiled]
    assert set(_SOURCES) == decide | {"system/words.py", *(f"native/c/{name}" for name in compiled)}


@pytest.mark.processes
def test_importing_the_plain_half_loads_no_torch_and_writes_nothing(tmp_path):
    code = f"import sys\nfor name in {_plain_modules()}: __import__(name)\n"
    code += "assert 'torch' not in sys.modules"
    environment = {**os.environ, "NANOCHAT_STUDIO_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", FILES, ids=_names(FILES))
def test_every_file_says_its_idea_first_and_stays_short(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), path
    assert len(text.splitlines()) <= 340, path


def test_nothing_lies_outside_its_folder():
    tracked = [name.split("/") for name in _tracked()]
    assert {parts[0] for parts in tracked if len(parts) > 1} == FOLDERS
    assert {parts[0] for parts in tracked if len(parts) == 1} <= AT_TOP
    in_core = {parts[1] for parts in tracked if parts[0] == "nanochat_core"}
    assert {name for name in in_core if not (CORE / name / "__init__.py").is_file()} == IN_CORE


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|md|css|toml)|(?:[\w.-]+/)+)`", text))
    assert len(named) > 4
    known = {f"/{name}" for name in _tracked()}
    known |= {name[: place + 1] for name in known for place, letter in enumerate(name) if letter == "/"}
    missing = {name for name in named if not any(one.endswith(f"/{name}") for one in known)}
    assert not missing


def test_the_type_checker_s_exceptions_are_counted():
    found = sum(path.read_text(encoding="utf-8").count("# type: ignore") for path in FILES)
    said = re.search(r"Number of `# type: ignore` .*: (\d+)\.", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert said is not None
    assert int(said[1]) == found


def test_the_tests_mirror_the_packages():
    for half, package in (("core", "nanochat_core"), ("studio", "studio")):
        folders = {path.name for path in (ROOT / "tests" / half).iterdir() if (path / "__init__.py").is_file()}
        packages = {path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").is_file()}
        assert folders, half
        assert folders <= packages
