"""What lies in a checkpoint: its tensors and its meta file, checked, without a model.

Reading never runs code from a file, and maps the file instead of copying it.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanochat_core.checkpoint.adapters import add_to_weights, read_adapter
from nanochat_core.checkpoint.checksums import digest, verify_checksum
from nanochat_core.model.gpt import GPTConfig
from nanochat_core.model.shape import detect_generation
from nanochat_core.paths import ModelFiles, adapter_base, steps
from nanochat_core.tokenizer.tokenizer import Tokenizer

COMPILED_PREFIX = "_orig_mod."  # torch.compile leaves it in the names


MOST_META = 16 << 20
"""Characters of a meta file; it describes a model and a run in some thousands."""


def read_checkpoint(files: ModelFiles, *, verified: bool = True) -> tuple[dict[str, Tensor], dict[str, Any], Tokenizer]:
    """(weights, meta, tokenizer) of a model, each compared with its checksum; the weights as of `read_weights`.

    verified: whether the files are read for that, and what was found is noted. ValueError in a sentence when one of
    them is missing, damaged, or does not fit the others. An adapter (LoRA) lies beside its base's weights, for
    `build_model` to merge.
    """
    if files.is_adapter:
        return _read_adapted(files, verified)
    weights, meta = read_weights(files.weights), read_meta(files.meta)
    others = [step for step in steps(files.folder) if step != files.step]
    remedy = "Save or download it again."
    if others:
        remedy = f"Use another checkpoint of it: step {', '.join(map(str, others))}."
    for path in (files.weights, files.tokenizer_dir / "tokenizer.pkl"):  # the meta is compared with the tensors
        if verified:
            verify_checksum(path, remedy)
    tokenizer = Tokenizer.from_directory(files.tokenizer_dir)
    size = model_config(meta, weights).vocab_size
    if tokenizer.vocab_size != size:
        raise ValueError(
            f"The tokenizer in {files.tokenizer_dir} has {tokenizer.vocab_size:,} tokens but the model '{files.name}' "
            f"has {size:,}. Put the model's own tokenizer.pkl into {files.folder}."
        )
    return weights, meta, tokenizer


def _read_adapted(files: ModelFiles, verified: bool) -> tuple[dict[str, Tensor], dict[str, Any], Tokenizer]:
    """The base's weights with the adapter beside them, which `build_model` merges; the adapter's own meta."""
    meta = read_meta(files.meta)
    weights, _, tokenizer = read_checkpoint(base_of_adapter(files, verified=verified), verified=verified)
    add_to_weights(weights, read_adapter(files.weights.parent), f"The adapter '{files.name}' (step {files.step})")
    return weights, meta, tokenizer


def base_of_adapter(files: ModelFiles, *, verified: bool = True) -> ModelFiles:
    """The model that an adapter was trained on. ValueError when it is gone, or (`verified`) no longer the same."""
    base = adapter_base(files)
    if verified and digest(base.weights) != read_meta(files.meta)["adapter"].get("sha256"):
        raise ValueError(
            f"The adapter '{files.name}' belongs to the model '{base.name}' of step {base.step}, and {base.weights} is "
            "another file than the one that it was trained on (its SHA-256 differs). Put the former file back, or "
            "train the adapter again."
        )
    return base


def noted_base(files: ModelFiles, source: str | None) -> dict[str, Any]:
    """What the meta of an adapter says of the model in `files`, for `base_of_adapter`. source: of a downloaded one."""
    return {"base": files.name, "step": files.step, "source": source, "sha256": digest(files.weights)}


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
    for name, tensor in content.items():
        if not isinstance(name, str) or not _is_stored(tensor):
            raise ValueError(
                f"{name!r:.80} in {path} is no plain tensor: the file does not hold what its shape "
                f"{tuple(tensor.shape)} says. Download or save the checkpoint again."
            )
    return {name.removeprefix(COMPILED_PREFIX): tensor for name, tensor in content.items()}


def _is_stored(tensor: Tensor) -> bool:
    """Whether every number of the tensor lies in the file: a repeated one would grow without end when it is copied."""
    return tensor.layout == torch.strided and tensor.numel() * tensor.itemsize <= tensor.untyped_storage().nbytes()


def read_meta(path: str | Path) -> dict[str, Any]:
    """The content of a `meta_<step>.json`. ValueError when it is no JSON object with a model_config."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MOST_META + 1)
        meta = json.loads(text) if len(text) <= MOST_META else None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}). Download or save the checkpoint again.") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("model_config"), dict):
        raise ValueError(f"{path} has no model_config. Use the meta_<step>.json that belongs to the checkpoint.")
    step = meta.get("step", 0)
    if isinstance(step, bool) or not isinstance(step, int):
        raise ValueError(f"{path} says step {step!r:.40}, which is no number. Download or save the checkpoint again.")
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
    layers = _layers(weights_shapes)
    for name, counted in (("n_embd", width), ("n_layer", layers)):
        if given.setdefault(name, counted) != counted:
            raise ValueError(
                f"The meta file's model_config says {name} {given[name]!r:.40}, and the checkpoint's weights have "
                f"{counted:,}. Use the meta file that belongs to the checkpoint."
            )
    given.setdefault("vocab_size", rows)
    if "n_head" not in given:
        raise ValueError("The meta file's model_config does not say n_head. Use the file that belongs to the model.")
    config = GPTConfig(**{**given, "n_kv_head": given["n_head"]}, generation=detect_generation(weights_shapes))
    key_rows = weights_shapes.get("transformer.h.0.attn.c_k.weight", (0, 0))[0]
    padded = rows if rows > config.vocab_size else 0
    return replace(config, n_kv_head=key_rows // config.head_dim, padded_vocab_size=padded)


def _layers(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many layers the weights have. ValueError when their numbers are not those from 0 on."""
    found = {name.split(".")[2] for name in shapes if name.startswith("transformer.h.")}
    missing = next(number for number in range(len(found) + 1) if str(number) not in found)
    if missing != len(found) or not found:
        raise ValueError(
            f"The checkpoint has weights of {len(found):,} layers and none of layer {missing:,}: it is not a nanochat "
            "model. Choose another file."
        )
    return len(found)


def check_names(expected: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor]) -> None:
    """ValueError when the weights are not those of a model whose parameters have the `expected` names and shapes."""
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
