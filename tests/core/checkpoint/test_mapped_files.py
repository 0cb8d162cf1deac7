"""Weights read from their file itself are those of its mapping, for every dtype; a file that changed is noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat_core import load_model
from nanochat_core.checkpoint import mapped_files
from nanochat_core.checkpoint.few_bits import BITS, FewBitsLinear, quantize
from nanochat_core.checkpoint.mapped_files import MappedReader
from nanochat_core.checkpoint.reading import read_weights
from tests.support.tiny import install_tiny_model

WEIGHTS = {
    "large": torch.randn(700, 300),
    "odd": torch.randn(7, 5).bfloat16(),
    "row": torch.randn(33),
    "bytes": torch.arange(100_001, dtype=torch.uint8),
    "half": torch.randn(90, 1000).bfloat16(),
    "turned": torch.randn(50, 60).T,
}


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(mapped_files, "PIECE_BYTES", 10_000)
    monkeypatch.setattr(mapped_files, "BLOCK_BYTES", 25_000)
    monkeypatch.setattr(mapped_files, "SHARED_BYTES", 5_000)


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "a folder, with a space"
    folder.mkdir()
    torch.save(WEIGHTS, folder / "model_000001.pt")
    return folder / "model_000001.pt"


def _check_all(tensors):
    with MappedReader() as reader:
        for name, expected in WEIGHTS.items():
            target = torch.full(expected.shape, 3, dtype=expected.dtype)
            reader.fill(target, tensors[name])
            assert torch.equal(target, expected), name
            blocks = [(rows, block.clone()) for rows, block in reader.blocks(tensors[name])]
            assert [rows.start for rows, _ in blocks] == sorted({rows.start for rows, _ in blocks})
            assert torch.equal(torch.cat([block for _, block in blocks]), expected), name
            shared = torch.full(expected.shape, 3, dtype=expected.dtype)
            reader.share_out(tensors[name], lambda rows, block, shared=shared: shared[rows].copy_(block))
            assert torch.equal(shared, expected), name
            part = torch.empty(3, *expected.shape[1:], dtype=expected.dtype)
            reader.fill(part, tensors[name][2:5])
            assert torch.equal(part, expected[2:5]), name


def _resident(path):
    """Bytes of the file's mapping that are in this process's memory (proc_pid_smaps(5))."""
    found, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("Rss:") and here:
            found += int(line.split()[1]) * 1024
        elif "-" in line.split()[0]:
            here = line.endswith(str(path))
    return found


def test_what_is_read_is_what_is_mapped(path):
    _check_all(read_weights(path))


def test_no_page_of_the_mapping_is_touched(path):
    if sys.platform != "linux":
        return
    large = read_weights(path)["large"]
    with MappedReader() as reader:
        before = _resident(path)
        reader.fill(torch.empty(large.shape), large)
        assert _resident(path) == before
    large.sum()
    assert _resident(path) >= large.nbytes > before


def test_elsewhere_the_mapping_is_copied(path, monkeypatch):
    monkeypatch.setattr(mapped_files.sys, "platform", "darwin")
    monkeypatch.setattr(mapped_files.os, "preadv", None, raising=False)
    _check_all(read_weights(path))


def test_without_proc_the_mapping_is_copied(path, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped_files, "Path", lambda name: tmp_path / f"no{name}")
    _check_all(read_weights(path))


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\f", "\x1c", "\r", " ", "\n", "(deleted)"])
def test_a_path_may_hold_any_character(tmp_path, odd):
    if sys.platform != "linux":
        return
    path = tmp_path / f"a{odd} b {odd}" / "model.pt"
    path.parent.mkdir()
    torch.save(WEIGHTS, path)
    tensors = read_weights(path)
    _check_all(tensors)
    with MappedReader() as reader:
        is_read = reader._place_of(tensors["large"]) is not None
    assert is_read == (odd != "\n")  # which /proc/self/maps writes as \012


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0)])
def test_tensors_without_content(path, shape):
    empty = torch.empty(shape)
    torch.save({"empty": empty}, path)
    with MappedReader() as reader:
        for stored in (empty, read_weights(path)["empty"]):
            blocks = [block for _, block in reader.blocks(stored)]
            assert sum(len(block) for block in blocks) == len(empty)
            reader.fill(torch.empty(shape), stored)


@pytest.mark.parametrize("change", [os.remove, lambda path: os.replace(path.with_name("new"), path)])
def test_a_file_that_took_the_name_is_not_read(path, change):
    torch.save({name: tensor + 1 for name, tensor in WEIGHTS.items()}, path.with_name("new"))
    tensors = read_weights(path)
    change(path)
    _check_all(tensors)


def test_a_file_that_took_the_name_after_the_mappings_were_looked_up_is_not_read(path):
    torch.save({name: tensor + 1 for name, tensor in WEIGHTS.items()}, path.with_name("new"))
    large = read_weights(path)["large"]
    with MappedReader() as reader:  # what it knows of the mapping does not say "(deleted)"
        os.replace(path.with_name("new"), path)
        target = torch.empty(large.shape)
        reader.fill(target, large)
    assert torch.equal(target, WEIGHTS["large"])


def test_tensors_in_memory_are_copied_and_kept():
    tensors = {name: tensor.clone() for name, tensor in WEIGHTS.items()}
    _check_all(tensors)
    assert all(torch.equal(tensors[name], expected) for name, expected in WEIGHTS.items())


def test_a_file_that_was_cut_short_meanwhile_is_a_sentence_and_no_crash(path):
    if sys.platform != "linux":
        return
    tensors = read_weights(path)
    os.truncate(path, path.stat().st_size // 3)
    with MappedReader() as reader:
        with pytest.raises(ValueError, match=r"model_000001\.pt ends at byte .* cut short .*again"):
            reader.fill(torch.empty(700, 300), tensors["large"])
        with pytest.raises(ValueError, match="cut short"):
            list(reader.blocks(tensors["half"]))
        with pytest.raises(ValueError, match="cut short"):
            reader.share_out(tensors["half"], lambda rows, block: None)


def test_files_are_closed_again(path):
    if sys.platform != "linux":
        return
    tensors = read_weights(path)
    before = os.listdir("/proc/self/fd")
    _check_all(tensors)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.int4])
def test_a_model_is_the_same_by_either_way(home, monkeypatch, dtype):
    install_tiny_model(home, generation="E", n_layer=4)
    loaded, _, _ = load_model("pretrained/tiny", dtype=dtype)
    monkeypatch.setattr(mapped_files, "_file_mappings", list)
    expected, _, _ = load_model("pretrained/tiny", dtype=dtype)
    assert loaded.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert loaded.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(loaded.state_dict()[name], tensor), name
    if dtype in BITS:
        in_memory = quantize(load_model("pretrained/tiny", dtype=torch.float32)[0], dtype)
        assert isinstance(in_memory.lm_head, FewBitsLinear)
        for name, tensor in in_memory.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.processes
def test_loading_does_not_import_torchs_compiler(home):
    install_tiny_model(home, generation="E", n_layer=4)
    code = "import sys, nanochat_core as n; n.load_model('pretrained/tiny'); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
