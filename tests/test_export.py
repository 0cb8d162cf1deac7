"""Exported models, loaded by the programs they are for: the same logits, the same ids, the same replies."""

import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import tiktoken
import torch

from nanochat_core import Engine, load_model, paths, safetensors_file
from nanochat_core import export as export_module
from nanochat_core.__main__ import main
from nanochat_core.checkpoint import read_weights, save_checkpoint
from nanochat_core.export import export
from nanochat_core.saving import save_tokenizer
from tests.tiny import PATTERN, install_tiny_model, tiny_model, tiny_ranks, tiny_tokenizer

ROOT = Path(__file__).parent.parent


def _relative(value: torch.Tensor, expected: torch.Tensor) -> float:
    return ((value.double() - expected.double()).norm() / expected.double().norm()).item()


def _loaded(folder: Path, **options):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def _rounded_angles(twin):
    """Let transformers round cos and sin to bf16, as nanochat does."""
    rotary = twin.model.rotary_emb.forward
    twin.model.rotary_emb.forward = lambda *args, **names: tuple(t.bfloat16().float() for t in rotary(*args, **names))
    return twin


def _ids(vocab_size: int = 512, rows: int = 2, length: int = 120) -> torch.Tensor:
    return torch.randint(vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))


def _folder(path: Path, **changes) -> Path:
    """A folder that holds one tiny model."""
    path.mkdir()
    save_checkpoint(path, 7, tiny_model(**changes), {"val_bpb": 1.0})
    save_tokenizer(path, tiny_tokenizer())
    return path


@pytest.fixture
def tiny(home, tmp_path):
    return str(_folder(tmp_path / "small"))


@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize("padding", [0, 576])
def test_transformers_gives_our_logits(home, tmp_path, kv_heads, padding):
    folder = _folder(tmp_path / "model", n_head=4, n_kv_head=kv_heads, padded_vocab_size=padding)
    model, _, _ = load_model(str(folder))
    twin = _loaded(export(str(folder), tmp_path / "out"))
    assert twin.dtype == torch.float32
    with torch.no_grad():
        ours = model(_ids())
        assert _relative(twin(_ids()).logits, ours) < 1e-3  # as it comes
        assert _relative(_rounded_angles(twin)(_ids()).logits, ours) < 1e-5


def test_bf16_weights_are_ours_rounded_once(tiny, tmp_path):
    twin = _loaded(export(tiny, tmp_path / "out", dtype="bfloat16"))
    assert twin.dtype == torch.bfloat16
    model, _, _ = load_model(tiny, dtype=torch.bfloat16)
    ours = dict(model.named_parameters())
    assert torch.equal(twin.model.layers[1].self_attn.k_proj.weight, ours["transformer.h.1.attn.c_k.weight"])
    assert torch.equal(twin.model.embed_tokens.weight, ours["transformer.wte.weight"])
    assert torch.equal(twin.lm_head.weight, ours["lm_head.weight"])
    rounded = model.float()
    rounded.compute_dtype = torch.float32
    with torch.no_grad():
        assert _relative(_loaded(tmp_path / "out", dtype=torch.float32)(_ids()).logits, rounded(_ids())) < 1e-3


def test_large_models_are_split_over_several_files(tiny, tmp_path, monkeypatch):
    whole = _loaded(export(tiny, tmp_path / "whole"))
    monkeypatch.setattr(safetensors_file, "MAX_SHARD_BYTES", 200_000)
    out = export(tiny, tmp_path / "split")
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert max(path.stat().st_size for path in out.glob("*.safetensors")) < 210_000
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    split = _loaded(out)
    assert index["metadata"]["total_size"] == 4 * sum(tensor.numel() for tensor in split.state_dict().values())
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, split.state_dict()[name]), name


def test_the_safetensors_library_reads_the_same_tensors(tmp_path):
    from safetensors import safe_open

    tensors = {"one": torch.randn(3, 5), "two": torch.randn(4, 6).T, "none": torch.zeros(0, 2), "last": torch.ones(7)}
    safetensors_file.write_safetensors(tmp_path / "file.safetensors", tensors, torch.bfloat16)
    with safe_open(tmp_path / "file.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        for name, tensor in tensors.items():
            assert torch.equal(file.get_tensor(name), tensor.bfloat16())


def test_configuration(tiny, tmp_path):
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    out = export(tiny, tmp_path / "out")
    config = AutoConfig.from_pretrained(out)
    assert (config.model_type, config.architectures) == ("nanochat", ["NanoChatForCausalLM"])
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (64, 256, 2)
    assert (config.vocab_size, config.max_position_embeddings) == (512, 256)
    assert (config.rms_norm_eps, config.final_logit_softcapping, config.hidden_act) == (1.1920929e-07, 15.0, "relu2")
    assert config.rope_parameters["rope_theta"] == 10_000.0
    assert config.tie_word_embeddings is False
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (503, 507, 507)
    generation = GenerationConfig.from_pretrained(out)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (503, [507, 503], 507)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (503, 507, 507)
    assert (len(tokenizer), tokenizer.model_max_length) == (512, 256)
    assert sorted(tokenizer.all_special_ids) == list(range(503, 512))


QUESTIONS = ["Hello!", "What is the capital of France?", "Who are you?", "What is the opposite of hot?", "Sing for me."]


@pytest.fixture(scope="module")
def starter_out(tmp_path_factory):
    return export("starter", tmp_path_factory.mktemp("exported") / "starter")


def test_the_starter_as_it_comes(starter_out):
    model, _, _ = load_model("starter")
    twin = _loaded(starter_out)
    with torch.no_grad():
        assert _relative(twin(_ids(4096)).logits, model(_ids(4096))) < 1e-3
        assert _relative(_rounded_angles(twin)(_ids(4096)).logits, model(_ids(4096))) < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_starter_says_the_same(starter_out, tmp_path, dtype):
    from transformers import AutoTokenizer

    out = starter_out if dtype == "float32" else export("starter", tmp_path / "out", dtype=dtype)
    twin, theirs = _loaded(out), AutoTokenizer.from_pretrained(out)
    assert str(twin.dtype) == f"torch.{dtype}"
    model, tokenizer, _ = load_model("starter")
    engine = Engine(model, tokenizer)
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        prompt = theirs.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
        ids = twin.generate(**prompt, max_new_tokens=32, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        expected = engine.reply(messages, max_tokens=32, temperature=0)
        assert expected
        assert theirs.decode(ids, skip_special_tokens=True) == expected


@pytest.mark.parametrize("generation", "BCDE")
def test_generations_unknown_to_transformers(home, tmp_path, generation):
    folder = _folder(tmp_path / "model", generation=generation)
    with pytest.raises(ValueError, match=f"generation {generation}; transformers has .* Export it with --format nano"):
        export(str(folder), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "model"]


@pytest.mark.parametrize("generation", "ABCDE")
@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_nanochat_folders(home, tmp_path, generation, dtype):
    folder = _folder(tmp_path / "mine", generation=generation)
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
            assert torch.equal(model(_ids()), load_model(str(folder))[0](_ids()))
    assert tokenizer.encode("the first") == tiny_tokenizer().encode("the first")


def test_nanochats_tokenizer_files(tiny, tmp_path):
    """nanochat reads them with a plain pickle.load and torch.load."""
    out = export(tiny, tmp_path / "out", "nanochat")
    with open(out / "tokenizer" / "tokenizer.pkl", "rb") as file:
        encoding = pickle.load(file)
    assert type(encoding) is tiktoken.Encoding
    assert (encoding._pat_str, encoding._mergeable_ranks) == (PATTERN, tiny_ranks())
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
    folder = _folder(tmp_path / "model")
    save_checkpoint(folder, 12, tiny_model(seed=5), {})
    newest = _loaded(export(str(folder), tmp_path / "newest"))
    older = _loaded(export(str(folder), tmp_path / "older", step=7))
    assert not torch.equal(newest.lm_head.weight, older.lm_head.weight)
    assert torch.equal(newest.lm_head.weight, read_weights(folder / "model_000012.pt")["lm_head.weight"])
    with pytest.raises(ValueError, match="no checkpoint of step 8; it has 7, 12"):
        export(str(folder), tmp_path / "none", step=8)


def test_an_empty_folder_is_filled_and_a_full_one_is_not(tiny, tmp_path):
    out = tmp_path / "new" / "deep"
    assert export(tiny, out) == out
    kept = (out / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"is not empty, and nothing is ever overwritten\. Name a new folder"):
        export(tiny, out)
    assert (out / "config.json").read_bytes() == kept
    (tmp_path / "empty").mkdir()
    export(tiny, tmp_path / "empty", "nanochat")
    assert (tmp_path / "empty" / "tokenizer" / "tokenizer.pkl").is_file()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file"):
        export(tiny, tmp_path / "file")
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
def test_places_that_cannot_be_written(tiny, tmp_path, place, part):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=part):
        export(tiny, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "home", "small"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"format": "gguf"}, "no export format 'gguf'. Use transformers or nanochat"),
        ({"dtype": "float16"}, "dtype 'float16' is not one to export. Use float32 or bfloat16"),
        ({"out": ""}, "Name a folder to export into"),
        ({"name": "nowhere"}, "There is no model 'nowhere'"),
    ],
)
def test_wrong_choices(tiny, tmp_path, arguments, part):
    with pytest.raises(ValueError, match=part):
        export(**{"name": tiny, "out": tmp_path / "out", **arguments})
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_model(tiny, tmp_path):
    save_tokenizer(Path(tiny), _other_tokenizer())
    with pytest.raises(ValueError, match=r"has 511 tokens but the model .* has 512. Put the model's own tokenizer.pkl"):
        export(tiny, tmp_path / "out")


def _other_tokenizer():
    from nanochat_core.tokenizer import Tokenizer

    ranks = tiny_ranks()
    return Tokenizer.from_ranks(dict(list(ranks.items())[:-1]), PATTERN)


def test_a_changed_checkpoint_is_not_exported(tiny, tmp_path):
    path = Path(tiny) / "model_000007.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="has changed since it was saved"):
        export(tiny, tmp_path / "out")


@pytest.mark.parametrize("format", export_module.FORMATS)
def test_no_room(tiny, tmp_path, monkeypatch, format):
    usage = shutil.disk_usage(tmp_path)._replace(free=50_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"needs 0.07 GB and the disk of .* has 0.05 GB free. Make room"):
        export(tiny, tmp_path / "out", format)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "small"]


def test_a_disk_that_fills_up_leaves_nothing(tiny, tmp_path):
    """A real limit on the size of files stands for the disk."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "from nanochat_core.__main__ import main; common = ['export', '--model', *sys.argv[1:], '--format']; "
        "sys.exit(10 * main([*common, 'transformers']) + main([*common, 'nanochat']))"
    )
    command = [sys.executable, "-c", code, tiny, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (22, "")
    assert done.stderr.count("File too large). Choose another folder, or make room.") == 2
    assert len(done.stderr.splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "small"]


def test_what_a_killed_export_left_is_cleared(tiny, tmp_path):
    code = (
        "import sys, time; from nanochat_core import export as module; "
        "module.write_transformers = lambda *rest: (print('writing', flush=True), time.sleep(100)); "
        "module.export(sys.argv[1], sys.argv[2])"
    )
    command = [sys.executable, "-c", code, tiny, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "writing\n"
        [left] = tmp_path.glob(".out.*.tmp")
        (left / "part").write_text("half")
        export(tiny, tmp_path / "out2")
        with export_module._appearing(tmp_path / "out"):  # a second export to the same place
            assert left.exists()  # is in use
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert left.exists()
    shutil.rmtree(tmp_path / "out")
    export(tiny, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out", "out2", "small"]


def test_only_one_of_two_exports_to_the_same_place_wins(tiny, tmp_path):
    first = export_module._appearing(tmp_path / "out")
    first.__enter__()
    export(tiny, tmp_path / "out")
    with pytest.raises(ValueError, match="Directory not empty"):
        first.__exit__(None, None, None)
    assert (tmp_path / "out" / "config.json").is_file()
    assert not list(tmp_path.glob(".*"))


def test_the_command(tiny, tmp_path, capsys):
    assert main(["export", "--model", tiny, str(tmp_path / "out"), "--format", "transformers"]) == 0
    printed = capsys.readouterr().out
    assert "model.safetensors" in printed
    assert f"is in {tmp_path / 'out'}." in printed
    assert main(["export", "--model", tiny, str(tmp_path / "small2"), "--format", "nanochat", "--dtype=bfloat16"]) == 0
    assert (tmp_path / "small2" / "tokenizer" / "tokenizer.pkl").is_file()
    capsys.readouterr()
    assert main(["export", "--model", tiny, str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("Error: ")
    assert main(["export", "--model", tiny, str(tmp_path / "new"), "--format", "onnx"]) == 2


def test_the_readmes_code(tiny, tmp_path, capsys):
    """What the README shows works as it stands: a reply through transformers, and mlx-lm's names."""
    from safetensors.torch import load_file

    out = export(tiny, tmp_path / "out")
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Use it elsewhere")[1].split("\n## ")[0]
    blocks = [part.split("```")[0] for part in section.split("```python\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        assert '"models/exported/mine"' in block
        exec(block.replace("models/exported/mine", str(out)), {})
    assert capsys.readouterr().out
    renamed, expected = load_file(out / "model.safetensors"), read_weights(Path(tiny) / "model_000007.pt")
    assert set(renamed) == set(expected)
    assert all(torch.equal(renamed[name], expected[name].float()) for name in expected)
