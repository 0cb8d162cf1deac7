"""A model as nanochat's own folders: what its NANOCHAT_BASE_DIR holds, one checkpoint and its tokenizer.

nanochat's commits until 18 January 2026 load a model of generation A from there (B from 11 January on); later
generations need the nanochat of their time. This program takes the checkpoint's folder as a model's name.
"""

from pathlib import Path
from typing import Any

import torch

from nanochat_core.checkpoint.writing import save_tokenizer
from nanochat_core.model.gpt import GPT
from nanochat_core.model.shape import is_table
from nanochat_core.paths import SOURCE_FOLDERS, ModelFiles, meta_path, weights_path
from nanochat_core.system.files import write_json
from nanochat_core.tokenizer.tokenizer import Tokenizer


def write_nanochat(
    folder: Path, files: ModelFiles, model: GPT, tokenizer: Tokenizer, meta: dict[str, Any], dtype: torch.dtype | None
) -> None:
    """Fill the empty `folder` with tokenizer/ and <stage>_checkpoints/<tag>/.

    dtype None gives nanochat's own: embedding tables in bf16, everything else in fp32. The weights that change
    their dtype are in memory together.
    """
    checkpoint = folder / checkpoint_folder(files)
    (folder / "tokenizer").mkdir()
    checkpoint.mkdir(parents=True)
    weights = {
        name: parameter.detach().to("cpu", dtype or _usual_dtype(name)) for name, parameter in model.named_parameters()
    }
    with open(weights_path(checkpoint, files.step), "wb") as file:
        torch.save(weights, file)
    content = {**_without_paths(meta), "step": files.step, "model_config": model.config.to_meta()}
    write_json(meta_path(checkpoint, files.step), content)
    save_tokenizer(folder / "tokenizer", tokenizer)


def checkpoint_folder(files: ModelFiles) -> str:
    """Where the checkpoint lies in the export: the stage that it came from (else sft), and the model's own name."""
    folder = files.folder.resolve()
    stage = folder.parent.name if folder.parent.name in SOURCE_FOLDERS.values() else SOURCE_FOLDERS["sft"]
    return f"{stage}/{folder.name}"


def _without_paths(meta: dict[str, Any]) -> dict[str, Any]:
    """A run's settings without the names of files on this machine, which are nobody else's business."""
    settings = meta.get("user_config")
    if not isinstance(settings, dict):
        return meta
    return {**meta, "user_config": {name: value for name, value in settings.items() if not name.endswith("_path")}}


def _usual_dtype(name: str) -> torch.dtype:
    return torch.bfloat16 if is_table(name) else torch.float32
