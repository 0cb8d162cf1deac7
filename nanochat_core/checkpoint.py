"""Checkpoints in nanochat's layout, read and written: model_<step>.pt, its SHA-256, and meta_<step>.json.

Reading never runs code from a file, maps the file instead of copying it, and holds at most one tensor twice.
"""

import ctypes
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanochat_core.files import sha256_of, write_atomically, write_json
from nanochat_core.generations import detect_generation, is_table
from nanochat_core.huge_pages import HugePages
from nanochat_core.mapped_files import MappedReader
from nanochat_core.model import GPT, GPTConfig
from nanochat_core.native import library
from nanochat_core.paths import find_model, meta_path, weights_path
from nanochat_core.quantization import quantize_int8
from nanochat_core.tokenizer import Tokenizer

COMPILED_PREFIX = "_orig_mod."  # torch.compile leaves it in the names
SMALL_BYTES = 1 << 30
"""Up to this size in fp32 a model is kept in fp32 on a CPU: exact, and fast without bf16 instructions."""


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
"""In what a model can be held for inference."""


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


def build_model(
    config: GPTConfig,
    weights: dict[str, Tensor],
    device: torch.device,
    dtype: torch.dtype | None,
    compute_dtype: torch.dtype,
    *,
    mapped: bool = False,
) -> GPT:
    """A model on `device` with every parameter as `dtype`; None keeps each one's own. Empties `weights` on the way.

    They are those of `read_weights`. Tensor by tensor, onto a model without storage, so that there is never a second
    copy of the weights. On a CPU the matrices come to lie in huge pages. A table that already has the dtype stays the
    file's mapping: only the rows that are looked up are ever read, and an optimizer's change to one is private to this
    process. So does everything that has the dtype when `mapped`: for a model whose weights are read once.
    """
    with torch.device("meta"):
        model = GPT(config, compute_dtype)
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    _check_names(expected, weights)
    memory = HugePages()
    with MappedReader() as reader:
        for name in expected:
            owner, _, leaf = name.rpartition(".")
            stored = weights.pop(name)
            held = dtype or stored.dtype
            keep = device.type == "cpu" and stored.dtype == held and (mapped or is_table(name))
            tensor = stored if keep else _placed(stored, device, held, memory, reader)
            setattr(model.get_submodule(owner), leaf, torch.nn.Parameter(tensor))
    weights.clear()  # rotary tables of old files
    return model


def _placed(
    stored: Tensor, device: torch.device, dtype: torch.dtype, memory: HugePages, reader: MappedReader
) -> Tensor:
    """A copy of a mapped tensor on `device` as `dtype`, converted a block at a time: never a second copy of it all."""
    if device.type != "cpu":
        target = torch.empty_like(stored, dtype=dtype, device=device)
    else:
        target = memory.zeros(stored.shape, dtype)
        if stored.dtype == dtype:
            reader.fill(target, stored)
            return target
    compiled = library("quantize") if device.type == "cpu" and stored.is_contiguous() else None
    if compiled and (stored.dtype, dtype) == (torch.float32, torch.bfloat16):
        reader.share_out(stored, lambda rows, block: _narrow(compiled, block, target[rows]))
        return target
    for rows, block in reader.blocks(stored):
        target[rows].copy_(block)
    return target


def _narrow(compiled: ctypes.CDLL, block: Tensor, target: Tensor) -> None:
    compiled.narrow(*(ctypes.c_void_p(each.data_ptr()) for each in (block, target)), ctypes.c_int64(block.numel()))


def load_model(
    name: str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    step: int | None = None,
) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """(model, tokenizer, meta) of the model called `name`, for inference: parameters in `dtype`, gradients off.

    `dtype` None takes bf16 on an accelerator and for a large model, fp32 for a small one on a CPU; torch.int8 rounds
    the matrices to eight bits, on a CPU only (see `quantization`). Raises ValueError in a sentence when there is no
    such model or its files do not fit together.
    """
    files = find_model(name, step)
    meta = read_meta(files.meta)
    weights = read_weights(files.weights)
    tokenizer = Tokenizer.from_directory(files.tokenizer_dir)
    config = model_config(meta, weights)
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"The tokenizer in {files.tokenizer_dir} has {tokenizer.vocab_size} tokens but the model '{name}' has "
            f"{config.vocab_size}. Put the model's own tokenizer.pkl into {files.folder}."
        )
    device = torch.device(device)
    return build_for_inference(config, weights, device, dtype), tokenizer, meta


def build_for_inference(
    config: GPTConfig, weights: dict[str, Tensor], device: torch.device, dtype: torch.dtype | None
) -> GPT:
    """`build_model` for a model that is not trained, with the `dtype` of `load_model`."""
    best = inference_dtype(device, weights)
    if dtype != torch.int8:
        model = build_model(config, weights, device, dtype or best, compute_dtype=dtype or best)
    elif device.type == "cpu":
        model = quantize_int8(build_model(config, weights, device, None, best, mapped=True), mapped=True)
    else:
        raise ValueError(f"Weights in int8 are for a CPU, and this is {device.type}. Take bfloat16.")
    return model.eval().requires_grad_(False)


def dtype_named(name: str | None) -> torch.dtype | None:
    """The dtype that a person calls `name`; None for None. ValueError for a name that is none of DTYPES."""
    if name is not None and name not in DTYPES:
        raise ValueError(f"dtype is '{name}'; it must be one of {', '.join(DTYPES)}.")
    return DTYPES.get(name)


def inference_dtype(device: torch.device, weights: Mapping[str, Tensor]) -> torch.dtype:
    """The precision in which a model is held for inference when nobody says."""
    small = sum(tensor.numel() for tensor in weights.values()) * 4 <= SMALL_BYTES
    return torch.float32 if device.type == "cpu" and small else torch.bfloat16


def save_checkpoint(folder: Path, step: int, model: GPT, meta: dict[str, Any]) -> None:
    """Write model, checksum and meta of a step; the meta comes last, so a checkpoint with a meta is complete.

    The dtypes are nanochat's: the embedding tables in bf16, everything else as it is.
    """
    weights = {name: _as_stored(name, parameter.detach()) for name, parameter in model.named_parameters()}
    path = weights_path(folder, step)
    write_atomically(path, lambda file: torch.save(weights, file))
    write_atomically(checksum_path(path), f"{sha256_of(path)}  {path.name}\n".encode())
    write_json(meta_path(folder, step), {"step": step, "model_config": model.config.to_meta(), **meta})


def checksum_path(path: Path) -> Path:
    """Where a file's SHA-256 lies, in the format of sha256sum."""
    return path.with_name(f"{path.name}.sha256")


def verify_checksum(path: Path) -> None:
    """ValueError when `path` does not have the SHA-256 that lies beside it; nothing where none does."""
    noted = checksum_path(path)
    if noted.is_file() and noted.read_text().split()[0] != sha256_of(path):
        raise ValueError(f"{path} has changed since it was saved (its SHA-256 differs). Use another checkpoint.")


def remove_checkpoint(folder: Path, step: int) -> None:
    """Delete a step's files, the meta first, so that a half-deleted checkpoint is an incomplete one."""
    path = weights_path(folder, step)
    for file in (meta_path(folder, step), checksum_path(path), path):
        file.unlink(missing_ok=True)


def _as_stored(name: str, tensor: Tensor) -> Tensor:
    return tensor.to("cpu", torch.bfloat16) if is_table(name) else tensor.cpu()


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
