"""From a checkpoint to a model: on its device, in its precision, and never with a second copy of the weights."""

import ctypes
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nanochat_core.checkpoint.adapters import merged, take_from_weights
from nanochat_core.checkpoint.compact import CompactLinear, make_compact, pays
from nanochat_core.checkpoint.few_bits import BITS, INT4, FewBitsLinear, quantize
from nanochat_core.checkpoint.mapped_files import MappedReader
from nanochat_core.checkpoint.reading import check_names, model_config, read_checkpoint
from nanochat_core.compute.huge_pages import HugePages
from nanochat_core.model.gpt import GPT, GPTConfig
from nanochat_core.model.shape import is_table
from nanochat_core.native.build import library
from nanochat_core.paths import ModelFiles, find_model
from nanochat_core.tokenizer.tokenizer import Tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8, "int4": INT4}
"""The number formats in which a model can be held for inference."""


SMALL_BYTES = 1 << 30
"""Up to this size in fp32 a model is kept in fp32 on a CPU: exact, and fast without bf16 instructions."""


def load_model(
    name: str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    step: int | None = None,
    *,
    for_chat: bool = False,
) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """(model, tokenizer, meta) of the model called `name`, for inference: parameters in `dtype`, gradients off.

    `dtype` None takes bf16 on an accelerator and for a large model, fp32 for a small one on a CPU; torch.int8 and
    torch.int4 round the matrices to eight or four bits, on a CPU only (see `few_bits`). `for_chat`: it will write
    one reply at a time, and fp32 may be held in the form that gives the same ones sooner (see `compact`). Raises
    ValueError in a sentence when there is no such model or its files do not fit together.
    """
    files = find_model(name, step)
    weights, meta, tokenizer = read_checkpoint(files)
    config = model_config(meta, weights)
    device = torch.device(device)
    return build_for_inference(config, weights, device, dtype, for_chat=for_chat), tokenizer, meta


def load_exact(files: ModelFiles) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """(model, tokenizer, meta) of a checkpoint, checked whole, to be written elsewhere: no weight is rounded.

    The weights stay mapped, but those of a lower precision than the others. An adapter is merged into them.
    """
    weights, meta, tokenizer = read_checkpoint(files)
    config = model_config(meta, weights)
    widest = max((tensor.dtype for tensor in weights.values()), key=lambda kind: kind.itemsize)
    return build_model(config, weights, torch.device("cpu"), widest, widest, mapped=True), tokenizer, meta


def build_for_inference(
    config: GPTConfig,
    weights: dict[str, Tensor],
    device: torch.device,
    dtype: torch.dtype | None,
    *,
    for_chat: bool = False,
) -> GPT:
    """`build_model` for a model that is not trained, with the `dtype` and `for_chat` of `load_model`."""
    best = inference_dtype(device, weights)
    held = dtype or best
    if for_chat and device.type == "cpu" and held == torch.float32 and pays(config):
        model = make_compact(build_model(config, weights, device, None, held, mapped=True), mapped=True)
    elif dtype is None or dtype not in BITS:
        model = build_model(config, weights, device, held, compute_dtype=held)
    elif device.type == "cpu":
        model = quantize(build_model(config, weights, device, None, best, mapped=True), dtype, mapped=True)
    else:
        raise ValueError(f"Weights in int8 and int4 are for a CPU, and this is {device.type}. Take bfloat16.")
    return model.eval().requires_grad_(requires_grad=False)


def inference_dtype(device: torch.device, weights: Mapping[str, Tensor]) -> torch.dtype:
    """The precision in which a model is held for inference when nobody says."""
    small = sum(tensor.numel() for tensor in weights.values()) * 4 <= SMALL_BYTES
    return torch.float32 if device.type == "cpu" and small else torch.bfloat16


def dtype_of(model: GPT) -> torch.dtype:
    """The precision in which a model's matrices are held, one of DTYPES."""
    held = model.lm_head.weight.dtype
    return {torch.uint8: INT4, torch.int16: torch.float32}.get(held, held)


def parameter_count(model: GPT) -> int:
    """How many parameters a model has, in whatever form its matrices are held."""
    ours = [module for module in model.modules() if isinstance(module, FewBitsLinear | CompactLinear)]
    packed = sum(module.weight.numel() for module in ours)
    return sum(p.numel() for p in model.parameters()) - packed + sum(m.outputs * m.inputs for m in ours)


def dtype_named(name: str | None) -> torch.dtype | None:
    """The dtype that a person calls `name`; None for None. ValueError for a name that is none of DTYPES."""
    if name is None:
        return None
    if name not in DTYPES:
        raise ValueError(f"dtype is '{name}'; it must be one of {', '.join(DTYPES)}.")
    return DTYPES[name]


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
    process. With `mapped` so does everything that has the dtype: for a model whose weights are read once. An adapter
    that lies among the weights is merged into its matrices, in fp32, before they are rounded to `dtype`.
    """
    with torch.device("meta"):
        model = GPT(config, compute_dtype)
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    adapted = take_from_weights(weights)
    check_names(expected, weights)
    memory = HugePages()
    with MappedReader() as reader:
        for name in expected:
            owner, _, leaf = name.rpartition(".")
            stored = weights.pop(name)
            if name in adapted:
                stored = merged(stored, *adapted.pop(name))
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
