"""The folder of an export: never overwritten, and there whole or not at all."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat_core.export import export as export_module
from nanochat_core.export.export import export

ROOT = Path(__file__).parents[3]


def test_an_empty_folder_is_filled_and_a_full_one_is_not(tiny_path, tmp_path):
    out = tmp_path / "new" / "deep"
    assert export(tiny_path, out) == out
    kept = (out / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"is not empty, and nothing is ever overwritten\. Name a new folder"):
        export(tiny_path, out)
    assert (out / "config.json").read_bytes() == kept
    (tmp_path / "empty").mkdir()
    export(tiny_path, tmp_path / "empty", "nanochat")
    assert (tmp_path / "empty" / "tokenizer" / "tokenizer.pkl").is_file()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file"):
        export(tiny_path, tmp_path / "file")
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~_umask()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


@pytest.mark.parametrize(
    ("place", "part"),
    [
        ("file/out", "file/out cannot be written .*/file: File exists"),
        ("file/deep/out", "cannot be written .*: Not a directory"),
        ("x" * 300, "cannot be written .*: File name too long"),
        ("x" * 250, "cannot be written .*: File name too long"),
    ],
)
def test_places_that_cannot_be_written(tiny_path, tmp_path, place, part):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=part):
        export(tiny_path, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "home", "small"]


@pytest.mark.parametrize("format", ["transformers", "nanochat", "gguf"])
def test_no_room(tiny_path, tmp_path, monkeypatch, format):
    usage = shutil.disk_usage(tmp_path)._replace(free=50_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"needs 0.07 GB and the disk of .* has 0.05 GB free. Make room"):
        export(tiny_path, tmp_path / "out", format)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "small"]


@pytest.mark.processes
def test_a_disk_that_fills_up_leaves_nothing(tiny_path, tmp_path):
    """A real limit on the size of files stands for the disk."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "from nanochat_core.cli.main import main; common = ['export', '--model', *sys.argv[1:], '--format']; "
        "sys.exit(10 * main([*common, 'transformers']) + main([*common, 'nanochat']))"
    )
    command = [sys.executable, "-c", code, tiny_path, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (22, "")
    assert done.stderr.count("File too large). Choose another folder, or make room.") == 2
    assert len(done.stderr.splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "small"]


@pytest.mark.processes
def test_what_a_killed_export_left_is_cleared(tiny_path, tmp_path):
    code = (
        "import sys, time; from nanochat_core.export import export as module; "
        "module.write_transformers = lambda *rest: (print('writing', flush=True), time.sleep(100)); "
        "module.export(sys.argv[1], sys.argv[2])"
    )
    command = [sys.executable, "-c", code, tiny_path, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "writing\n"
        [left] = tmp_path.glob(".out.*.tmp")
        (left / "part").write_text("half")
        export(tiny_path, tmp_path / "out2")
        with export_module._appearing(tmp_path / "out"):  # a second export to the same place
            assert left.exists()  # is in use
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert left.exists()
    shutil.rmtree(tmp_path / "out")
    export(tiny_path, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out", "out2", "small"]


def test_only_one_of_two_exports_to_the_same_place_wins(tiny_path, tmp_path):
    first = export_module._appearing(tmp_path / "out")
    first.__enter__()
    export(tiny_path, tmp_path / "out")
    with pytest.raises(ValueError, match="Directory not empty"):
        first.__exit__(None, None, None)
    assert (tmp_path / "out" / "config.json").is_file()
    assert not list(tmp_path.glob(".*"))
