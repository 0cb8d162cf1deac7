"""Each row of docs/works-with.md: a model of that structure, in its layout, is loaded, trained a step and exported."""

import pytest
import torch

from nanochat_core import FinetuneConfig, load_model
from nanochat_core.checkpoint.reading import model_config, read_weights
from nanochat_core.checkpoint.writing import save_checkpoint, save_tokenizer
from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.training_data import load_training_data
from nanochat_core.export.export import export
from nanochat_core.export.llama import differences
from nanochat_core.hub.files import RemoteFile
from nanochat_core.hub.selection import choose
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import PROJECT_ROOT, find_model
from nanochat_core.training.setup import base_files, set_up
from tests.support.public_models import PUBLIC, install, table
from tests.support.tiny import write_conversations

by_name = pytest.mark.parametrize("model", PUBLIC, ids=lambda model: model.repo)


@by_name
def test_the_shape_at_full_width(model):
    """Told by the weights' names and shapes, as from its checkpoint; nothing is in memory."""
    with torch.device("meta"):
        network = GPT(model.shape)
    weights = dict(network.named_parameters())
    found = model_config({"model_config": model.shape.to_meta()}, weights)
    assert found == model.shape
    assert model.parameters in (None, sum(weight.numel() for weight in weights.values()))


@by_name
def test_it_is_loaded_trained_a_step_and_exported(home, tmp_path, monkeypatch, model):
    name = install(home, model)
    files = find_model(name)
    network, tokenizer, meta = load_model(name, dtype=torch.float32)
    assert (files.step, meta["step"]) == (model.step, model.step)
    assert network.config == model.small()
    logits = network(torch.tensor([tokenizer.render_prompt([{"role": "user", "content": "Hello"}])]))
    assert logits.isfinite().all()

    mine = train_a_step(model, tmp_path)
    trained, before = load_model(mine, dtype=torch.float32)[0], dict(network.named_parameters())
    assert trained.config.generation == model.shape.generation
    for name_of, weight in trained.named_parameters():
        if weight.ndim == 2 and "gate" not in name_of:
            assert not torch.equal(weight, before[name_of]), f"{name_of} was not trained"

    out = export(mine, tmp_path / "nanochat", "nanochat")
    [written] = out.rglob("model_*.pt")
    assert list(read_weights(written)) == list(before)
    again = load_model(str(written.parent), dtype=torch.float32)[0]
    with torch.no_grad():
        assert torch.allclose(again(logits.argmax(-1)), trained(logits.argmax(-1)), atol=0.05)  # tables in bf16
    for name_of in ("REPLY_TOKENS", "_MOST_REPLIES", "_MOST_TOKENS"):
        monkeypatch.setattr(differences, name_of, 2)  # how good the file is, others measure
    for format_name in ("transformers", "gguf"):
        if model.shape.generation == "A":
            quant = "bf16" if format_name == "gguf" else None
            assert any(export(mine, tmp_path / format_name, format_name, quant=quant).iterdir())
        else:
            with pytest.raises(ValueError, match=r"generation .*command serve"):
                export(mine, tmp_path / format_name, format_name)


def train_a_step(model, folder) -> str:
    """One step of the ordinary training, without a run around it; the NAME of what came of it."""
    settings = {"num_iterations": 1, "target_examples_per_step": 2, "max_seq_len": 64, "dtype": "float32"}
    data = str(write_conversations(folder / "data.jsonl", 6))
    config = FinetuneConfig(data, model_tag=model.tag, source=model.stage, **settings)
    ranks = Ranks(0, 1, torch.device("cpu"))
    setup = set_up(config, ranks, base_files(config), lambda tokenizer: load_training_data(config, tokenizer))
    loss, norm = setup.training_step(setup.data.train[:2])
    assert loss > 0
    assert norm > 0
    (folder / "mine").mkdir()
    save_checkpoint(folder / "mine", 1, setup.model, {})
    save_tokenizer(folder / "mine", setup.tokenizer)
    return str(folder / "mine")


@pytest.mark.parametrize("files", [["config.json", "model.safetensors", "tokenizer.json"], ["nanochat-d34-Q8_0.gguf"]])
def test_what_cannot_be_read_is_said(home, tmp_path, files):
    with pytest.raises(ValueError, match=r"no nanochat model: it lacks tokenizer.pkl and model_<step>.pt"):
        choose([RemoteFile(path, 1) for path in files], "me/converted")
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match="holds no checkpoint"):
        load_model(str(tmp_path))


def test_the_table_is_the_documentation_s():
    """`python -m tests.support.public_models > docs/works-with.md` writes it."""
    assert (PROJECT_ROOT / "docs" / "works-with.md").read_text(encoding="utf-8") == table()
