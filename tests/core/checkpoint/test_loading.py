"""nanochat's checkpoint layout, read and written; damaged, strange and hostile files end in one sentence."""

import json
import os
import pickle
import re
import sys
import time

import pytest
import torch

from nanochat_core import load_model, paths
from nanochat_core.checkpoint import checksums
from nanochat_core.checkpoint.checksums import checksum_path, verify_checksum, write_checksum
from nanochat_core.checkpoint.loading import _placed
from nanochat_core.checkpoint.mapped_files import MappedReader
from nanochat_core.checkpoint.reading import model_config, read_meta, read_weights
from nanochat_core.checkpoint.writing import (
    remove_checkpoint,
    save_checkpoint,
    save_tokenizer,
)
from nanochat_core.compute.huge_pages import HUGE_BYTES, HugePages
from nanochat_core.system.files import sha256_of, write_atomically
from tests.support.exporting import tiny_folder
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


def test_half_a_name_is_told_the_whole_one(home):
    install_tiny_model(home, tag="mine")
    with pytest.raises(ValueError, match=r"There is no model 'mine' .* Its whole name is pretrained/mine\."):
        paths.find_model("mine")


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


@pytest.mark.parametrize("name", ["model_000007.pt", "tokenizer.pkl"])
def test_a_flipped_byte_in_any_file_is_refused_and_another_step_offered(home, name):
    folder = tiny_folder(home / "small")
    save_checkpoint(folder, 5, tiny_model(), {})
    write_checksum(folder / "tokenizer.pkl")
    load_model(str(folder), step=7)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} has changed since it was saved.*step 5"):
        load_model(str(folder), step=7)


def test_an_untouched_file_is_read_for_its_checksum_once(home, monkeypatch):
    folder = tiny_folder(home / "small")
    read = []
    monkeypatch.setattr(checksums, "sha256_of", lambda path: read.append(path.name) or sha256_of(path))
    load_model(str(folder))
    load_model(str(folder))
    assert sorted(read) == ["model_000007.pt"]


@pytest.mark.parametrize("content", ["", "\n", "\xff"])
def test_what_is_left_of_a_checksum_is_none(tmp_path, content):
    save_checkpoint(tmp_path, 1, tiny_model(), {})
    checksum_path(tmp_path / "model_000001.pt").write_text(content, encoding="latin-1")
    verify_checksum(tmp_path / "model_000001.pt")


STRANGE = [
    "",
    "[]",
    '{"model_config": {}, "step": "7"}',
    "{",
    '{"model_config": 3}',
    "[" * 100_000,
    '{"model_config": {}, "x": "' + "x" * (17 << 20),
]


@pytest.mark.parametrize("content", STRANGE, ids=["empty", "list", "step", "torn", "number", "deep", "long"])
def test_a_strange_meta_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "meta_000001.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"meta_000001\.json"):
        read_meta(path)


def with_model_config(home, **changes):
    """A model whose meta file says something else than its weights."""
    tag = install_tiny_model(home)
    files = paths.find_model(f"pretrained/{tag}")
    meta = json.loads(files.meta.read_text())
    files.meta.write_text(json.dumps({**meta, "model_config": {**meta["model_config"], **changes}}))
    return f"pretrained/{tag}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_layer": 3}, "says n_layer 3, and the checkpoint's weights have 2"),
        ({"n_layer": 10**9}, "says n_layer 1000000000"),
        ({"n_layer": "2"}, "says n_layer '2'"),
        ({"n_embd": 128}, "says n_embd 128, and the checkpoint's weights have 64"),
        ({"n_head": "4"}, "n_head is '4'"),
        ({"n_head": 0}, "n_head is 0"),
        ({"n_head": 1.5}, "n_head is 1.5"),
        ({"n_head": True}, "n_head is True"),
        ({"n_head": [4]}, "n_head is"),
        ({"n_head": 7}, "no even number of channels per head"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000"),
        ({"vocab_size": {}}, "vocab_size is {}"),
        ({"sequence_len": 10**12}, "sequence_len is 1000000000000"),
        ({"sequence_len": "2048"}, "sequence_len is '2048'"),
        ({"window_pattern": 7}, "window_pattern is 7"),
        ({"window_pattern": ""}, "window_pattern is ''"),
    ],
)
def test_weights_that_do_not_fit_the_meta_file_are_refused_at_once(home, changes, said):
    name = with_model_config(home, **changes)
    began = time.monotonic()
    with pytest.raises(ValueError, match=re.escape(said)):
        load_model(name)
    assert time.monotonic() - began < 5


def weights_of(model, **changes):
    """A table of weights, some of them others than the model's."""
    return {**model.state_dict(), **changes}


def test_weights_with_strange_layers_are_refused_at_once():
    model = tiny_model()
    meta = {"model_config": {"n_head": model.config.n_head}}
    far = {"transformer.h.1000000000.attn.c_q.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="weights of 3 layers and none of layer 2"):
        model_config(meta, weights_of(model, **far))
    with pytest.raises(ValueError, match="weights of 3 layers and none of layer 2"):
        model_config(meta, weights_of(model, **{"transformer.h.x.weight": torch.zeros(1)}))
    with pytest.raises(ValueError, match="weights of 0 layers"):
        model_config(meta, {name: tensor for name, tensor in model.state_dict().items() if ".h." not in name})


def test_a_tensor_that_is_larger_than_its_file_is_refused(tmp_path):
    """A few bytes that pass for a table of terabytes, by a stride of nothing."""
    path = tmp_path / "model_000001.pt"
    torch.save({"lm_head.weight": torch.zeros(1).expand(10**6, 10**6)}, path)
    with pytest.raises(ValueError, match="does not hold what its shape"):
        read_weights(path)
    torch.save({"lm_head.weight": torch.sparse_coo_tensor(size=(10**6, 10**6))}, path)
    with pytest.raises(ValueError, match=r"model_000001\.pt"):
        read_weights(path)


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
