"""What every export has in common: the step, the choices, what it refuses, and the command."""

import json
from pathlib import Path

import pytest
import torch

from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.checkpoint.writing import save_checkpoint, save_tokenizer
from nanochat_core.cli.main import main
from nanochat_core.export.export import export
from nanochat_core.tokenizer.compiled import NANOCHAT_PATTERN
from tests.support.exporting import tiny_folder
from tests.support.tiny import tiny_model, tiny_ranks, tiny_tokenizer
from tests.support.transformers_twin import loaded


def test_no_paths_of_this_machine_are_exported(home, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    settings = {"data_path": "/home/someone/secret.jsonl", "replay_path": None, "num_epochs": 3}
    save_checkpoint(folder, 2, tiny_model(), {"user_config": settings, "base_model": "starter"})
    save_tokenizer(folder, tiny_tokenizer())
    out = export(str(folder), tmp_path / "out", "nanochat")
    meta = json.loads((out / "chatsft_checkpoints" / "run" / "meta_000002.json").read_text())
    assert meta["user_config"] == {"num_epochs": 3}
    export(str(folder), tmp_path / "other")
    for path in [*(tmp_path / "other").iterdir(), *out.rglob("*.json")]:
        assert b"someone" not in path.read_bytes(), path


def test_the_step_is_chosen(home, tmp_path):
    folder = tiny_folder(tmp_path / "model")
    save_checkpoint(folder, 12, tiny_model(seed=5), {})
    newest = loaded(export(str(folder), tmp_path / "newest"))
    older = loaded(export(str(folder), tmp_path / "older", step=7))
    assert not torch.equal(newest.lm_head.weight, older.lm_head.weight)
    assert torch.equal(newest.lm_head.weight, read_weights(folder / "model_000012.pt")["lm_head.weight"])
    with pytest.raises(ValueError, match="no checkpoint of step 8; it has 7, 12"):
        export(str(folder), tmp_path / "none", step=8)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"format": "onnx"}, "no export format 'onnx'. Use transformers, nanochat, peft or gguf"),
        ({"format": "gguf", "dtype": "float32"}, "GGUF's precision is called --quant"),
        ({"format": "gguf", "quant": "f16"}, "no quantization 'f16'. Use one of f32, bf16, q8_0, q5_0, q4_0"),
        ({"quant": "q8_0"}, "--quant is for --format gguf"),
        ({"dtype": "float16"}, "dtype 'float16' is not one to export. Use float32 or bfloat16"),
        ({"out": ""}, "Name a folder to export into"),
        ({"name": "nowhere"}, "There is no model 'nowhere'"),
    ],
)
def test_wrong_choices(tiny_path, tmp_path, arguments, part):
    with pytest.raises(ValueError, match=part):
        export(**{"name": tiny_path, "out": tmp_path / "out", **arguments})
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_model(tiny_path, tmp_path):
    save_tokenizer(Path(tiny_path), _other_tokenizer())
    with pytest.raises(ValueError, match=r"has 511 tokens but the model .* has 512. Put the model's own tokenizer.pkl"):
        export(tiny_path, tmp_path / "out")


def _other_tokenizer():
    from nanochat_core.tokenizer.tokenizer import Tokenizer

    ranks = tiny_ranks()
    return Tokenizer.from_ranks(dict(list(ranks.items())[:-1]), NANOCHAT_PATTERN)


def test_a_changed_checkpoint_is_not_exported(tiny_path, tmp_path):
    path = Path(tiny_path) / "model_000007.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="has changed since it was saved"):
        export(tiny_path, tmp_path / "out")


def test_the_command(tiny_path, tmp_path, capsys):
    assert main(["export", "--model", tiny_path, str(tmp_path / "out"), "--format", "transformers"]) == 0
    printed = capsys.readouterr().out
    assert "model.safetensors" in printed
    assert f"is in {tmp_path / 'out'}." in printed
    assert (
        main(["export", "--model", tiny_path, str(tmp_path / "small2"), "--format", "nanochat", "--dtype=bfloat16"])
        == 0
    )
    assert (tmp_path / "small2" / "tokenizer" / "tokenizer.pkl").is_file()
    capsys.readouterr()
    assert main(["export", "--model", tiny_path, str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("Error: ")
    assert main(["export", "--model", tiny_path, str(tmp_path / "new"), "--format", "onnx"]) == 2
