"""Compiled code of our own: built once, built again when it is broken, and done without where there is no compiler."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat_core.checkpoint import few_bits
from nanochat_core.model import decode_step
from nanochat_core.native import build
from nanochat_core.tokenizer import compiled
from nanochat_core.training import newton_schulz
from tests.support.tiny import tiny_model
from tests.support.transformers_twin import relative


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A copy of the C files, with nothing built beside it."""
    shutil.copytree(build.SOURCES, tmp_path / "c", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(build, "SOURCES", tmp_path / "c")
    build.library.cache_clear()
    yield tmp_path / "c"
    build.library.cache_clear()


@pytest.mark.parametrize("broken", [False, True], ids=["none", "broken"])
def test_without_a_compiler_torch_does_it_and_it_is_said_once(sources, monkeypatch, caplog, tmp_path, broken):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    if broken:
        (tmp_path / "cc").write_text("#!/bin/sh\n[ $1 = --version ] || { echo cannot >&2; exit 1; }\n")
        (tmp_path / "cc").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    model, ids = tiny_model(), torch.randint(0, 512, (1, 9), generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        logits = model(ids, cache=model.new_cache(1, 9))
    assert model.decoder is None
    assert relative(logits, model(ids)[:, -1:]) < 1e-5
    [record] = caplog.records
    assert ("cannot" if broken else "no C compiler was found") in record.getMessage()


@pytest.mark.processes
def test_two_processes_that_build_at_once(sources):
    code = (
        "import sys, pathlib\nfrom nanochat_core.native import build\n"
        "build.SOURCES = pathlib.Path(sys.argv[1])\nassert build.library('decode').decode"
    )
    command = [sys.executable, "-c", code, str(sources)]
    running = [subprocess.Popen(command, cwd=Path(__file__).parents[3]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert len(list(sources.glob("__pycache__/decode-*.so"))) == 1


def test_a_broken_library_is_built_again(sources):
    assert build.library("decode")
    [built] = sources.glob("__pycache__/decode-*.so")
    whole = built.stat().st_size
    built.unlink()  # not written over: this process has it loaded
    built.write_bytes(b"\x7fELF" + b"\0" * 2000)
    build.library.cache_clear()
    assert build.library("decode")
    assert built.stat().st_size == whole


def test_another_processors_code_is_built_by_name_and_kept_apart(sources, monkeypatch):
    builds = []
    monkeypatch.setattr(build, "_build", lambda compiler, source, file: builds.append((build._for_cpu(), file.name)))
    for named in (None, "x86-64-v3", None, "armv8-a"):
        monkeypatch.delenv("NANOCHAT_MARCH", raising=False)
        if named:
            monkeypatch.setenv("NANOCHAT_MARCH", named)
        build._built("decode")
    flags, files = zip(*builds)
    assert flags == (build.FOR_THIS_CPU, ("-march=x86-64-v3",), build.FOR_THIS_CPU, ("-march=armv8-a",))
    assert files[0] == files[2]
    assert len(set(files)) == 3


MIRRORED = {
    "decode": {"layer": decode_step._Layer, "shape": decode_step._Shape, "request": decode_step._Request},
    "tokenize": {"encoding": compiled._Encoding},
    "quantize": {"request": few_bits._Request},
    "newton_schulz": {"request": newton_schulz._Request},
}


@pytest.mark.parametrize("name", MIRRORED)
def test_structures_are_the_same_in_c_and_in_ctypes(name, caplog):
    assert build.library(name, **MIRRORED[name])
    assert not caplog.records


@pytest.mark.parametrize(
    ("structure", "known", "changed"),
    [
        ("layer", "double residual, start;", "double residual, middle, start;"),
        ("request", "int64_t rows, added, threads;", "int64_t rows, added, wider, threads;"),
        ("shape", "*smear_gate;", "*smear_gate, *other;"),
    ],
)
def test_a_structure_that_only_one_side_changed_is_refused_once(sources, caplog, structure, known, changed):
    text = (sources / "decode.c").read_text()
    assert text.count(known) == 1
    (sources / "decode.c").write_text(text.replace(known, changed))
    models = [tiny_model(), tiny_model()]
    ids = torch.randint(0, 512, (1, 9), generator=torch.Generator().manual_seed(0))
    for model in models:
        assert relative(model(ids, cache=model.new_cache(1, 9)), model(ids)[:, -1:]) < 1e-5
        assert model.decoder is None
    [record] = caplog.records
    assert f"{structure} of decode.c has" in record.getMessage()
