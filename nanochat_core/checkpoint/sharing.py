"""Several models for inference at once: those with an adapter share the memory of their base, which is loaded once."""

from collections import Counter
from collections.abc import Sequence

import torch

from nanochat_core.checkpoint.adapters import read_adapter
from nanochat_core.checkpoint.loading import build_for_inference
from nanochat_core.checkpoint.reading import base_of_adapter, model_config, read_checkpoint
from nanochat_core.model.adapters import with_adapter
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import ModelFiles
from nanochat_core.tokenizer.tokenizer import Tokenizer

Loaded = tuple[GPT, Tokenizer]


def load_models(files: Sequence[ModelFiles], device: torch.device, dtype: torch.dtype | None) -> list[Loaded]:
    """The models, with the `dtype` of `load_model`.

    One alone has its adapter merged, which is the fastest; several adapters of one base hang beside its weights, and
    so does one whose base is asked for, too. ValueError in a sentence when one of them cannot be used.
    """
    bases = [base_of_adapter(one) if one.is_adapter else one for one in files]
    wanted = Counter(map(_place, bases))
    shared: dict[tuple[str, int], Loaded] = {}
    found = []
    for one, base in zip(files, bases):
        if wanted[_place(base)] == 1:
            found.append(_built(one, device, dtype))
            continue
        if _place(base) not in shared:
            shared[_place(base)] = _built(base, device, dtype)
        model, tokenizer = shared[_place(base)]
        found.append((with_own_adapter(model, one), tokenizer) if one.is_adapter else (model, tokenizer))
    return found


def with_own_adapter(base: GPT, files: ModelFiles) -> GPT:
    """The model in `files`, which has an adapter, as a second one beside its `base`, whose weights it shares."""
    adapter = read_adapter(files.weights.parent)
    with torch.device("meta"):  # what the base's own matrices look like depends on their dtype
        shapes = {name: value.shape for name, value in GPT(base.config).named_parameters()}
    for name, (a, b) in adapter.matrices.items():
        if shapes.get(f"{name}.weight") != (len(b), a.shape[1]):
            raise ValueError(f"The adapter '{files.name}' (step {files.step}) does not fit its base model at {name}.")
    return with_adapter(base, adapter)


def _built(files: ModelFiles, device: torch.device, dtype: torch.dtype | None) -> Loaded:
    weights, meta, tokenizer = read_checkpoint(files)
    return build_for_inference(model_config(meta, weights), weights, device, dtype), tokenizer


def _place(files: ModelFiles) -> tuple[str, int]:
    return str(files.folder.resolve()), files.step
