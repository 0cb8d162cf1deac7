"""What a job is sent is enough to train: the code by itself, with no packages but those that the job installs."""

import os
import shutil
import subprocess
import sys

import pytest

from nanochat_core.remote.inputs import REQUIREMENTS, code_files

IMPORT = """
import pathlib, re, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

def plain(name):
    return re.match(r"[\\w.-]+", name)[0].lower().replace("_", "-")

def with_dependencies(names):
    found, wanted = set(), {plain(name) for name in names}
    while wanted:
        found.add(name := wanted.pop())
        try:
            wanted |= {plain(line) for line in requires(name) or [] if "extra ==" not in line} - found
        except PackageNotFoundError:
            pass  # for another system
    return found

installed = with_dependencies(["torch", *sys.argv[1:]])
makers = packages_distributions()

class OnlyWhatIsInstalled:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if path is None and top in makers and not installed & {plain(maker) for maker in makers[top]}:
            raise ModuleNotFoundError(f"{top} is not installed in a job")

sys.meta_path.insert(0, OnlyWhatIsInstalled())
import nanochat_core.remote.job, nanochat_core.training.worker
from nanochat_core.native import build
print(pathlib.Path(nanochat_core.__file__).parent, len(list(build.SOURCES.iterdir())))
"""


@pytest.mark.processes
def test_the_sent_code_is_imported_by_itself(tmp_path):
    files = code_files()
    for path, source in files.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    assert not [path for path in files if "__pycache__" in path or path.endswith(".so")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code"), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", IMPORT, *REQUIREMENTS]
    process = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    sources = sum(path.startswith("code/nanochat_core/native/c/") for path in files)
    assert process.stdout.split() == [str(tmp_path / "code" / "nanochat_core"), str(sources)]


def test_files_beside_the_code_are_sent_too(monkeypatch, tmp_path):
    package = tmp_path / "nanochat_core"
    for name in ("__init__.py", "rules/table.json", "__pycache__/x.pyc", "native/.build.lock"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    monkeypatch.setattr("nanochat_core.remote.inputs.PROJECT_ROOT", tmp_path)
    assert sorted(code_files()) == ["code/nanochat_core/__init__.py", "code/nanochat_core/rules/table.json"]
