"""Which files of a repository are the model: by stage, by step, in the layouts that people use."""

import pytest

from nanochat_core.hub.files import RemoteFile
from nanochat_core.hub.selection import choose, tag_of
from tests.support.downloading import REPO


@pytest.mark.parametrize(
    ("repo", "tag"), [(REPO, "d32"), ("me/nanochat_d20", "d20"), ("me/NanoChat-my-d8", "my-d8"), ("me/other", "other")]
)
def test_the_tag_comes_from_the_repository(repo, tag):
    assert tag_of(repo) == tag


PAIR = (("model", "pt"), ("meta", "json"))


def remote(*paths):
    return [RemoteFile(path, 1, "0" * 64) for path in paths]


def test_files_are_found_in_folders_with_the_tokenizer_closest_to_them():
    files = remote(
        *(f"base_checkpoints/d20/{name}" for name in ("model_021400.pt", "meta_021400.json")),
        *(f"chatsft_checkpoints/d20/{name}" for name in ("model_000500.pt", "meta_000500.json", "model_000600.pt")),
        *(f"chatsft_checkpoints/d20/{name}" for name in ("model_000700.pt.tmp", "model_700.pt", "meta_700.json")),
        *("tokenizer/tokenizer.pkl", "tokenizer/token_bytes.pt", "old/x/tokenizer.pkl"),
    )
    chosen = choose(files, "me/x")
    assert chosen.stage == "sft"
    assert [file.path for file in chosen.files] == [
        *("tokenizer/tokenizer.pkl", "tokenizer/token_bytes.pt"),
        *("chatsft_checkpoints/d20/model_000500.pt", "chatsft_checkpoints/d20/meta_000500.json"),
    ]
    assert choose(files, "me/x", "base").checkpoint[0].path == "base_checkpoints/d20/model_021400.pt"
    with pytest.raises(ValueError, match="of stage rl"):
        choose(files, "me/x", "rl")


LAYOUTS = {
    "a whole cache folder": ("me/x", ".cache/nanochat/chatsft_checkpoints/d26", ".cache/nanochat/tokenizer", "sft"),
    "stages as folders": ("me/nanochat-d20", "rl", "tokenizer", "rl"),
    "chat stages as folders": ("me/nanochat-d20", "checkpoints/chatsft/d20", "tokenizer", "sft"),
    "a base model with its tag": ("me/nanochat-d26", "base_checkpoints/d26", "tokenizer", "base"),
    "a stage in the tag's folder": ("me/models", "d24-mid", "d24-mid", "mid"),
    "the stage in the name": ("me/nanochat-d20-mid", "", "", "mid"),
    "a stage folder as name": ("me/d20-20tpp-base_checkpoints", "", "tokenizer", "base"),
    "a folder by tag, the stage in the name": ("me/nanochat-d26-sft", "d26", "tokenizer", "sft"),
    "nothing told": ("karpathy/nanochat-d34", "", "", "sft"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_found_in_the_communitys_layouts(layout):
    repo, folder, tokenizer, stage = LAYOUTS[layout]
    place, pickle = (f"{path}/" if path else "" for path in (folder, tokenizer))
    wanted = [f"{pickle}tokenizer.pkl", f"{pickle}token_bytes.pt", *(f"{place}{n}_002100.{e}" for n, e in PAIR)]
    noise = [f"{place}optim_002100_rank0.pt", f"{place}report.md", "model.safetensors", "tokenizer.json", "README.md"]
    chosen = choose(remote(*noise, *reversed(wanted)), repo)
    assert ([file.path for file in chosen.files], chosen.stage) == (wanted, stage)
    assert choose(remote(*wanted), "me/x", stage).stage == stage


def test_a_repository_without_token_bytes_or_stage_is_taken_as_it_is():
    chosen = choose(remote("a/tokenizer.pkl", "a/model_000001.pt", "a/meta_000001.json"), "me/x", "base")
    assert chosen.stage == "base"
    assert [file.name for file in chosen.files] == ["tokenizer.pkl", "model_000001.pt", "meta_000001.json"]
