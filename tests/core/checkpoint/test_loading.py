"""nanochat's checkpoint layout, read and written; damaged, strange and hostile files end in one sentence."""

import json
import os
import pickle
import sys

import pytest
import torch

from nanochat_core import load_model, paths
from nanochat_core.checkpoint.loading import _placed
from nanochat_core.checkpoint.mapped_files import MappedReader
from nanochat_core.checkpoint.reading import read_meta, read_weights
from nanochat_core.checkpoint.writing import (
    checksum_path,
    remove_checkpoint,
    save_checkpoint,
    save_tokenizer,
    verify_checksum,
)
from nanochat_core.compute.huge_pages import HUGE_BYTES, HugePages
from nanochat_core.system.files import sha256_of, write_atomically
from tests.support.tiny import install_tiny_model, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("generation", "ABCDE")
def test_every_generation_survives_saving_and_loading(home, generation):
    tag = install_tiny_model(home, generation=generation, window_pattern="SL", n_head=4, n_kv_head=2, n_layer=4)
    model, tokenizer, meta = load_model(f"pretrained/{tag}")
    expected = tiny_model(generation, window_pattern="SL", n_head=4, n_kv_head=2, n_layer=4)
    assert model.config.generation == generation
    assert model.config.n_kv_head == 2
    assert meta["step"] == 7
    assert tokenizer.vocab_size == 512
    for (name, ours), original in zip(model.named_parameters(), expected.parameters()):
        stored = original.bfloat16().float() if "wte" in name or "value_embeds" in name else original
        assert torch.equal(ours, stored), name
        assert not ours.requires_grad


def test_the_file_is_nanochats(tmp_path):
    save_checkpoint(tmp_path, 12, tiny_model(), {"user_config": {}})
    weights = torch.load(tmp_path / "model_000012.pt", weights_only=True)
    assert weights["transformer.wte.weight"].dtype == torch.bfloat16
    assert weights["transformer.h.0.attn.c_q.weight"].dtype == torch.float32
    assert len(weights) == 2 + 2 * 6
    meta = json.loads((tmp_path / "meta_000012.json").read_text())
    assert meta["step"] == 12
    assert set(meta["model_config"]) == {"sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd"}
    digest, name = checksum_path(tmp_path / "model_000012.pt").read_text().split()
    assert (digest, name) == (sha256_of(tmp_path / "model_000012.pt"), "model_000012.pt")


def test_compiled_and_padded_files_load(home):
    folder = home / "padded"
    model = tiny_model(vocab_size=512, padded_vocab_size=576)
    folder.mkdir()
    weights = {f"_orig_mod.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    torch.save(weights, folder / "model_000001.pt")
    config = {name: value for name, value in model.config.to_meta().items() if name != "n_kv_head"}
    (folder / "meta_000001.json").write_text(json.dumps({"step": 1, "model_config": config}))
    save_tokenizer(folder, tiny_tokenizer())
    loaded, _, _ = load_model(str(folder))
    ids = torch.arange(20)[None]
    assert torch.equal(loaded(ids), model(ids))


def test_the_newest_complete_step_is_taken_and_strange_names_are_skipped(home):
    tag = install_tiny_model(home)
    folder = paths.find_model(f"pretrained/{tag}").folder
    (folder / "model_best.pt").write_bytes(b"")
    (folder / "model_000099.pt").write_bytes(b"half a download")  # no meta yet
    (folder / ".model_000100.pt.x.tmp").write_bytes(b"")
    assert paths.steps(folder) == [7]
    assert paths.find_model(f"pretrained/{tag}").step == 7
    with pytest.raises(ValueError, match="no checkpoint of step 8; it has 7"):
        paths.find_model(f"pretrained/{tag}", step=8)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("pretrained/d32", "make download"),
        ("finetuned/none", "models"),
        ("nowhere", "A NAME is starter"),
        ("finetuned/../../etc", "models"),
    ],
)
def test_a_missing_model_names_the_remedy(home, name, remedy):
    with pytest.raises(ValueError, match="There is no model") as error:
        paths.find_model(name)
    assert remedy in str(error.value)


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch bomb",)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 nonsense", pickle.dumps({"a": 1}), pickle.dumps(_Bomb()), b"<html>404</html>"],
    ids=["empty", "zip", "pickle", "bomb", "page"],
)
def test_a_damaged_or_hostile_weights_file_is_one_sentence(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model_000001.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model_000001\.pt"):
        read_weights(path)
    assert not (tmp_path / "bomb").exists()


def test_a_cut_weights_file_is_refused(tmp_path):
    save_checkpoint(tmp_path, 1, tiny_model(), {})
    path = tmp_path / "model_000001.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="damaged"):
        read_weights(path)
    with pytest.raises(ValueError, match="has changed since it was saved"):
        verify_checksum(path)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model_config": 3}'])
def test_a_strange_meta_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "meta_000001.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"meta_000001\.json"):
        read_meta(path)


def test_weights_that_do_not_fit_the_meta_file_are_refused(home):
    tag = install_tiny_model(home)
    files = paths.find_model(f"pretrained/{tag}")
    meta = json.loads(files.meta.read_text())
    for change, said in (({"n_layer": 3}, "lacks transformer.h.2"), ({"n_embd": 128}, "by its model_config")):
        files.meta.write_text(json.dumps({**meta, "model_config": {**meta["model_config"], **change}}))
        with pytest.raises(ValueError, match=said):
            load_model(f"pretrained/{tag}")


def test_another_models_tokenizer_is_refused(home):
    tag = install_tiny_model(home, vocab_size=600)
    with pytest.raises(ValueError, match="has 512 tokens but the model"):
        load_model(f"pretrained/{tag}")


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fails(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_removing_takes_the_meta_first(tmp_path):
    save_checkpoint(tmp_path, 1, tiny_model(), {})
    remove_checkpoint(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_matrices_lie_side_by_side_in_huge_pages(tmp_path):
    weights = {"a": torch.randn(2048, 1024), "b": torch.randn(7, 5), "c": torch.randn(9000, 2048).bfloat16()}
    torch.save(weights, tmp_path / "model_000001.pt")
    stored, memory, device = read_weights(tmp_path / "model_000001.pt"), HugePages(), torch.device("cpu")
    with MappedReader() as reader:
        placed = {name: _placed(stored[name], device, torch.bfloat16, memory, reader) for name in weights}
    for name, expected in weights.items():
        assert placed[name].is_contiguous()
        assert torch.equal(placed[name], expected.bfloat16())
        assert torch.equal(stored[name], expected)
        assert placed[name].untyped_storage().nbytes() == 2 * expected.numel()  # or saving it would save its neighbours
    if sys.platform == "linux":
        assert placed["a"].data_ptr() % HUGE_BYTES == 0
        assert placed["b"].data_ptr() == placed["a"].data_ptr() + placed["a"].nbytes
        assert placed["c"].data_ptr() == placed["b"].data_ptr() + 128  # the next cache line
    del placed["a"], placed["b"]
    assert torch.equal(placed["c"], weights["c"])  # its block stays for as long as it does


def test_a_tensor_larger_than_a_block_gets_one_of_its_own():
    memory = HugePages()
    small, large, more = (memory.zeros(torch.Size([rows, 1 << 20]), torch.int8) for rows in (1, 70, 1))
    assert large.shape == (70, 1 << 20)
    assert not any(tensor.any() for tensor in (small, large, more))
