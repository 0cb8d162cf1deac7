"""The public nanochat models, as far as their own files tell of them, and small copies of the same structure.

`python -m tests.support.public_models` prints docs/works-with.md.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nanochat_core.checkpoint.writing import save_tokenizer
from nanochat_core.hub.files import RemoteFile
from nanochat_core.hub.selection import choose, tag_of
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import GPTConfig, is_table
from nanochat_core.paths import SOURCE_FOLDERS
from nanochat_core.system.files import write_json
from tests.support.tiny import tiny_tokenizer

HEAD_DIM = 8
"""Of the small copies, whose layers, heads and windows are the original's; nanochat's is 128."""


@dataclass(frozen=True)
class PublicModel:
    """One published model, or the one that nanochat's own script made in some weeks."""

    repo: str
    """Its repository on the hub, or an invented name where none is known."""
    from_where: str
    """In words, for the table."""
    shape: GPTConfig
    step: int
    stage: str
    files: tuple[str, ...]
    """In the repository."""
    parameters: int | None = None
    """As its card or its checkpoint says."""
    dtype: torch.dtype = torch.float32
    """Of all but the tables, which are in bf16."""
    prefix: str = ""
    """Before each name; torch.compile leaves one."""

    @property
    def tag(self) -> str:
        return tag_of(self.repo)

    def small(self) -> GPTConfig:
        """The same layers, heads and windows, of HEAD_DIM channels a head, for the tiny tokenizer."""
        padded = 576 if self.shape.padded_vocab_size else 0
        width = self.shape.n_head * HEAD_DIM
        return replace(self.shape, n_embd=width, vocab_size=512, padded_vocab_size=padded, sequence_len=256)


def _flat(step: int) -> tuple[str, ...]:
    return "tokenizer.pkl", "token_bytes.pt", f"meta_{step:06d}.json", f"model_{step:06d}.pt"


def _shape(depth: int, generation: str, vocab_size: int = 65536, windows: str = "L", padded: int = 0) -> GPTConfig:
    """nanochat's shape of a depth: 64 channels a layer, in heads of 128."""
    heads = depth * 64 // 128
    return GPTConfig(2048, vocab_size, depth, heads, heads, heads * 128, windows, generation, padded)


PUBLIC = (
    PublicModel("karpathy/nanochat-d32", "on the hub", _shape(32, "A"), 650, "sft", _flat(650), 1_879_048_192),
    PublicModel("karpathy/nanochat-d34", "on the hub", _shape(34, "A"), 169150, "sft", _flat(169150)),
    PublicModel(
        "SoumilR/nanochat-d20-mid", "on the hub", _shape(20, "A"), 808, "mid", _flat(808), 560_988_160,
        prefix="_orig_mod.",
    ),
    PublicModel(
        "me/nanochat-d20", "nanochat of 23 December 2025 to 10 January 2026, padded vocabulary",
        _shape(20, "A", 65530, padded=65536), 700, "sft", _flat(700),
    ),
    PublicModel(
        "me/nanochat-d20-january", "nanochat of 11 to 17 January 2026",
        _shape(20, "B", windows="SSSL"), 700, "sft", _flat(700),
    ),
    PublicModel(
        "carlosaguayo/nanochat-d26", "on the hub", _shape(26, "C", 32768, "SSSL"), 7226, "base",
        ("tokenizer/tokenizer.pkl", "tokenizer/token_bytes.pt", "meta_007226.json", "model_007226.pt"),
        1_681_790_292, torch.bfloat16,
    ),
    PublicModel(
        "me/nanochat-d24-march", "nanochat of 9 to 13 March 2026",
        _shape(24, "D", 32768, "SSSL"), 5000, "sft",
        ("tokenizer/tokenizer.pkl", *(f"chatsft_checkpoints/d24/{name}" for name in _flat(5000)[2:])),
    ),
    PublicModel(
        "me/nanochat-d24", "nanochat since 14 March 2026",
        _shape(24, "E", 32768, "SSSL"), 5000, "sft",
        ("tokenizer/tokenizer.pkl", *(f"chatsft_checkpoints/d24/{name}" for name in _flat(5000)[2:])),
    ),
)  # fmt: skip


def install(home: Path, model: PublicModel) -> str:
    """Write the small copy, in the files of the repository that a download chooses, where it puts them; its NAME."""
    chosen = choose([RemoteFile(path, 1) for path in model.files], model.repo)
    assert chosen.stage in (model.stage, "sft")  # flat repositories say no stage, and sft is taken
    folder = home / "models" / "pretrained" / SOURCE_FOLDERS[model.stage] / model.tag
    folder.mkdir(parents=True)
    weights, meta = (Path(file.path).name for file in chosen.checkpoint)
    network = filled(GPT(model.small()))
    torch.save({model.prefix + name: tensor for name, tensor in stored(network, model.dtype).items()}, folder / weights)
    config = network.config.to_meta()
    write_json(folder / meta, {"step": model.step, "model_config": config})  # no user_config: it may be missing
    save_tokenizer(folder, tiny_tokenizer())
    return f"pretrained/{model.tag}"


def filled(network: GPT) -> GPT:
    """Random weights that give a say to each part."""
    generator = torch.Generator().manual_seed(1)
    network.init_weights(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network


def stored(network: GPT, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights as nanochat saves them: tables in bf16."""
    return {
        name: parameter.detach().to(torch.bfloat16 if is_table(name) else dtype)
        for name, parameter in network.named_parameters()
    }


def table() -> str:
    """docs/works-with.md."""
    lines = [_BEFORE]
    for model in PUBLIC:
        shape, is_known = model.shape, not model.repo.startswith("me/")
        name = f"`{model.repo}`" if is_known else model.from_where
        generation = shape.generation + ("'" if shape.padded_vocab_size else "")
        size = f"{shape.n_layer}, {shape.n_embd:,}, {shape.n_head}, {shape.vocab_size:,}"
        others = "yes" if shape.generation == "A" else "no"
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in GPT(shape).parameters())
        lines.append(f"| {name} | {generation} | {size} | {count:,} | yes | yes | {others} | {others} |")
    return "\n".join([*lines, _AFTER])


_BEFORE = """# Works with

The public nanochat models, and those that nanochat's own script made at some time. For each a test (tests/core/test_public_models.py)
takes random weights in its layout and structure, at full width without memory and scaled down in width with it: it is found and
loaded, trained a step, and exported. The weights themselves were not downloaded for this table, and training at full width was not run for it.

| model | generation | layers, width, heads, vocabulary | parameters | chat, serve, train | export: nanochat | transformers | GGUF |
|---|---|---|---|---|---|---|---|"""  # noqa: E501  Markdown's lines

_AFTER = """
What does not work, each told in one sentence when it is tried:

- transformers and llama.cpp have a model for generation A only. `serve` answers other programs for the others.
- A repository in transformers' layout (`config.json`, `model.safetensors`) cannot be downloaded as a model to train: nanochat's own
  files (`model_<step>.pt`, `meta_<step>.json`, `tokenizer.pkl`) are needed.
- GGUF files, those of a fork's architecture `nanochat` included, cannot be read; they are made from a checkpoint.
- Checkpoints of experimental branches (`bigram_*`, `v0_lambdas`, `value_embed_A`) are refused.
"""  # noqa: E501


if __name__ == "__main__":
    print(table(), end="")
