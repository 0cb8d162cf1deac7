"""What lies in a checkpoint: its tensors and its meta file, checked, without a model."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanochat_core.model.generations import detect_generation
from nanochat_core.model.gpt import GPTConfig

COMPILED_PREFIX = "_orig_mod."  # torch.compile leaves it in the names


SMALL_BYTES = 1 << 30
"""Up to this size in fp32 a model is kept in fp32 on a CPU: exact, and fast without bf16 instructions."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `model_<step>.pt` by name, mapped from the file: memory is used where they are touched.

    Raises ValueError when the file is missing, cut short, not a checkpoint, or would need code to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no file {path}. `python -m nanochat_core models` lists the models there are.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, KeyError, ... by the damage
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it is damaged, cut short, or holds something else than weights "
            f"({type(error).__name__}). Download or save it again."
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no plain table of tensors. Use a model_<step>.pt written by nanochat.")
    return {name.removeprefix(COMPILED_PREFIX): tensor for name, tensor in content.items()}


def read_meta(path: str | Path) -> dict[str, Any]:
    """The content of a `meta_<step>.json`. ValueError when it is no JSON object with a model_config."""
    try:
        meta = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}). Download or save the checkpoint again.") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("model_config"), dict):
        raise ValueError(f"{path} has no model_config. Use the meta_<step>.json that belongs to the checkpoint.")
    return meta


def model_config(meta: Mapping[str, Any], weights: Mapping[str, Tensor]) -> GPTConfig:
    """The model's shape, from the meta file's model_config completed and checked by the weights themselves."""
    weights_shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    missing = [n for n in ("transformer.wte.weight", "lm_head.weight") if len(weights_shapes.get(n, ())) != 2]
    if missing:
        raise ValueError(f"The checkpoint has no matrix {missing[0]}: it is not a nanochat model. Choose another file.")
    known = {field.name for field in fields(GPTConfig)} - {"generation", "padded_vocab_size"}
    given = {name: value for name, value in meta["model_config"].items() if name in known and value is not None}
    rows, width = weights_shapes["transformer.wte.weight"]
    given.setdefault("n_embd", width)
    given.setdefault("vocab_size", rows)
    given.setdefault("n_layer", 1 + max(int(n.split(".")[2]) for n in weights_shapes if n.startswith("transformer.h.")))
    if "n_head" not in given:
        raise ValueError("The meta file's model_config does not say n_head. Use the file that belongs to the model.")
    head_dim = given["n_embd"] // given["n_head"]
    key_rows = weights_shapes.get("transformer.h.0.attn.c_k.weight", (0, 0))[0]
    return GPTConfig(
        **{**given, "n_kv_head": key_rows // head_dim},
        generation=detect_generation(weights_shapes),
        padded_vocab_size=rows if rows > given["vocab_size"] else 0,
    )


def _check_names(expected: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor]) -> None:
    missing = [name for name in expected if name not in weights]
    extra = [name for name in weights if name not in expected and name not in ("cos", "sin")]
    if missing or extra:
        parts = [f"lacks {missing[0]}" if missing else "", f"has an unknown {extra[0]}" if extra else ""]
        raise ValueError(
            f"The checkpoint {' and '.join(part for part in parts if part)}, so it does not fit its model_config. "
            "Use the meta file that belongs to it, of a published nanochat version."
        )
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(
                f"{name} is {tuple(weights[name].shape)} in the checkpoint but {shape} by its model_config. "
                "Use the meta file that belongs to the checkpoint."
            )
