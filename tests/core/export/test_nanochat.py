"""Models exported for nanochat: its folders, weights and tokenizer files."""

import json
import pickle

import pytest
import tiktoken
import torch

from nanochat_core import load_model, paths
from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.export.export import export
from nanochat_core.tokenizer.compiled import NANOCHAT_PATTERN
from tests.support.exporting import random_ids, tiny_folder
from tests.support.tiny import install_tiny_model, tiny_ranks, tiny_tokenizer


@pytest.mark.parametrize("generation", "ABCDE")
@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_nanochat_folders(home, tmp_path, generation, dtype):
    folder = tiny_folder(tmp_path / "mine", generation=generation)
    out = export(str(folder), tmp_path / "out", "nanochat", dtype)
    checkpoint = out / "chatsft_checkpoints" / "mine"
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == [
        "chatsft_checkpoints/mine/meta_000007.json",
        "chatsft_checkpoints/mine/model_000007.pt",
        "tokenizer/token_bytes.pt",
        "tokenizer/tokenizer.pkl",
    ]
    before, after = read_weights(folder / "model_000007.pt"), read_weights(checkpoint / "model_000007.pt")
    assert list(after) == list(before)
    chosen = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(dtype)
    for name, tensor in after.items():
        is_table = name == "transformer.wte.weight" or name.startswith("value_embeds.")
        assert tensor.dtype == (chosen or (torch.bfloat16 if is_table else torch.float32)), name
        assert torch.equal(tensor, before[name].to(tensor.dtype)), name
    assert (checkpoint / "model_000007.pt").stat().st_size < sum(t.nbytes for t in after.values()) + 50_000
    meta = json.loads((checkpoint / "meta_000007.json").read_text())
    usual = {"sequence_len": 256, "vocab_size": 512, "n_layer": 2, "n_head": 2, "n_kv_head": 2, "n_embd": 64}
    expected = usual if generation == "A" else {**usual, "window_pattern": "L"}
    assert meta == {"step": 7, "model_config": expected, "val_bpb": 1.0}
    with torch.no_grad():
        model, tokenizer, _ = load_model(str(checkpoint), dtype=torch.float32)
        if dtype != "bfloat16":
            assert torch.equal(model(random_ids()), load_model(str(folder))[0](random_ids()))
    assert tokenizer.encode("the first") == tiny_tokenizer().encode("the first")


def test_nanochats_tokenizer_files(tiny_path, tmp_path):
    """nanochat reads them with a plain pickle.load and torch.load."""
    out = export(tiny_path, tmp_path / "out", "nanochat")
    with open(out / "tokenizer" / "tokenizer.pkl", "rb") as file:
        encoding = pickle.load(file)
    assert type(encoding) is tiktoken.Encoding
    assert (encoding._pat_str, encoding._mergeable_ranks) == (NANOCHAT_PATTERN, tiny_ranks())
    assert encoding.encode_ordinary("the first water") == tiny_tokenizer().encode("the first water")
    assert encoding.encode_single_token("<|assistant_end|>") == 507
    assert encoding.n_vocab == 512  # nanochat compares it with model_config
    sizes = torch.load(out / "tokenizer" / "token_bytes.pt", weights_only=True)
    assert sizes.dtype == torch.int32
    assert sizes.tolist() == tiny_tokenizer().token_bytes()


def test_nanochat_folders_keep_stage_and_name(home, tmp_path):
    install_tiny_model(home, "d2")
    mid = home / "models" / "pretrained" / "mid_checkpoints"
    mid.mkdir()
    (home / "models" / "pretrained" / "chatsft_checkpoints" / "d2").rename(mid / "d2")
    out = export("pretrained/d2", tmp_path / "out", "nanochat")
    assert paths.steps(out / "mid_checkpoints" / "d2") == [7]
    assert paths.steps(export("starter", tmp_path / "other", "nanochat") / "chatsft_checkpoints" / "starter")
