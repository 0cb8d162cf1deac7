"""Adapters on the disk in peft's format, which `peft` loads onto transformers' export of the base model.

A folder with adapter_config.json and adapter_model.safetensors. The modules have transformers' names in both, also for
models of generations that transformers has not.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nanochat_core.checkpoint.checksums import verify_checksum, write_with_checksum
from nanochat_core.model.adapters import Adapter
from nanochat_core.paths import ADAPTER_CONFIG, ADAPTER_WEIGHTS

MODULE_NAMES = {
    "attn.c_q": "self_attn.q_proj",
    "attn.c_k": "self_attn.k_proj",
    "attn.c_v": "self_attn.v_proj",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""The matrices of a block, and transformers' names for them."""

_OURS = {theirs: ours for ours, theirs in MODULE_NAMES.items()}
_TENSOR = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.([\w.]+)\.lora_([AB])\.weight")
_REMEDY = "Use another checkpoint, or train it again."
_PLAIN = {"use_dora": False, "use_rslora": False, "fan_in_fan_out": False, "bias": "none", "modules_to_save": None}
"""What peft can do beyond LoRA's two matrices, and the value that says that it is not done."""


def write_adapter(folder: Path, adapter: Adapter, base: str) -> None:
    """Write both files and their checksums into `folder`. base: what is called the base model in them."""
    folder.mkdir(exist_ok=True)
    for name, content in adapter_files(adapter, base).items():
        write_with_checksum(folder / name, content)


def adapter_files(adapter: Adapter, base: str) -> dict[str, bytes]:
    """Both files by their names. base: what is called the base model in them."""
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": int(adapter.alpha) if float(adapter.alpha).is_integer() else adapter.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted({_their_name(name).rpartition(".")[2] for name in adapter.matrices}),
        "inference_mode": True,
        **_PLAIN,
    }
    tensors = {
        f"base_model.model.{_their_name(name)}.lora_{letter}.weight": tensor.float().cpu().contiguous()
        for name, pair in adapter.matrices.items()
        for letter, tensor in zip("AB", pair)
    }
    text = json.dumps(settings, indent=2) + "\n"
    return {ADAPTER_CONFIG: text.encode(), ADAPTER_WEIGHTS: save(tensors, {"format": "pt"})}


def read_adapter(folder: Path) -> Adapter:
    """The adapter in `folder`, compared with its checksums. ValueError in a sentence when it cannot be used."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        verify_checksum(folder / name, _REMEDY)
    try:
        settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        tensors = load((folder / ADAPTER_WEIGHTS).read_bytes())
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise ValueError(f"The adapter in {folder} cannot be read ({error}). {_REMEDY}") from error
    rank, alpha = _checked(settings, folder)
    matrices = _paired(tensors, folder)
    for name, (a, b) in matrices.items():
        if a.ndim != 2 or b.ndim != 2 or not len(a) == b.shape[1] == rank:
            shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise ValueError(f"The adapter in {folder} has {shapes} at {name}, which is no rank {rank}. {_REMEDY}")
    return Adapter(rank, alpha, matrices)


def _checked(settings: Any, folder: Path) -> tuple[int, float]:
    """(rank, alpha). ValueError for what is no plain LoRA."""
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise ValueError(f"{folder / ADAPTER_CONFIG} is not that of a LoRA adapter. {_REMEDY}")
    for name, value in _PLAIN.items():
        if settings.get(name, value) not in (value, None, []):
            raise ValueError(
                f"{folder / ADAPTER_CONFIG} says {name} {settings[name]!r:.40}, which is not supported. {_REMEDY}"
            )
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise ValueError(f"{folder / ADAPTER_CONFIG} says r {rank!r:.40} and lora_alpha {alpha!r:.40}. {_REMEDY}")
    return rank, float(alpha)


def _paired(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None or match[2] not in _OURS:
            raise ValueError(f"The adapter in {folder} holds an unknown {name!r:.80}. {_REMEDY}")
        found.setdefault(f"transformer.h.{match[1]}.{_OURS[match[2]]}", {})[match[3]] = tensor.float()
    halves = [name for name, pair in found.items() if len(pair) != 2]
    if halves or not found:
        raise ValueError(f"The adapter in {folder} lacks half of its matrices. {_REMEDY}")
    return {name: (pair["A"], pair["B"]) for name, pair in found.items()}


def _their_name(name: str) -> str:
    """transformer.h.3.attn.c_q -> model.layers.3.self_attn.q_proj."""
    _, _, layer, part = name.split(".", 3)
    return f"model.layers.{layer}.{MODULE_NAMES[part]}"


# Among the weights of the base model


def add_to_weights(weights: dict[str, Tensor], adapter: Adapter, what: str) -> None:
    """Lay the adapter beside the weights of its base, for `take_from_weights`. ValueError when it is another model's.

    what: names the adapter. One that lies there already, since the base was itself one with an adapter, stays: the
    ranks add up.
    """
    for name, (a, b) in adapter.matrices.items():
        matrix = weights.get(f"{name}.weight")
        if matrix is None or matrix.shape != (len(b), a.shape[1]):
            raise ValueError(f"{what} does not fit its base model at {name}. {_REMEDY}")
        earlier_a, earlier_b = weights.get(_key(name, "A"), a[:0]), weights.get(_key(name, "B"), b[:, :0])
        weights[_key(name, "A")] = torch.cat([earlier_a, a])
        weights[_key(name, "B")] = torch.cat([earlier_b, b * adapter.scale], 1)


def take_from_weights(weights: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """The adapter that lies among `weights`, taken out: by the matrix's name A and B, the scale in B."""
    names = [key.removesuffix(_key("", "A")) for key in weights if key.endswith(_key("", "A"))]
    return {f"{name}.weight": (weights.pop(_key(name, "A")), weights.pop(_key(name, "B"))) for name in names}


def merged(matrix: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """matrix + b a in fp32; the scale is in b."""
    return torch.addmm(matrix.float(), b, a)


def _key(name: str, letter: str) -> str:
    return f"{name}.lora_{letter}"
