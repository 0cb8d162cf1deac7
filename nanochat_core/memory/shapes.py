"""The shape of a base model without its weights: by its meta file and the names in its checkpoint, or by its tag.

A nanochat of depth n has n layers of 64 n channels, heads of 128 channels and 65,536 tokens, so d32 can be planned for
before it is downloaded.
"""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from nanochat_core.config import FinetuneConfig
from nanochat_core.model.shape import GPTConfig
from nanochat_core.paths import ModelFiles, find_model

_DEPTH = re.compile(r"pretrained/d([1-9]\d{0,2})")
_CHANNELS_PER_LAYER, _CHANNELS_PER_HEAD = 64, 128
_MOST_INDEX = 16 << 20
"""Bytes of a checkpoint's list of tensors; it has some thousands."""


@dataclass(frozen=True)
class KnownShape:
    """The shape of a base model, and how it is known."""

    shape: GPTConfig
    source: str
    """A phrase: `its meta file`, or `its tag: ...`."""


def shape_of(config: FinetuneConfig) -> KnownShape:
    """The shape of the model that `config` begins with. ValueError when neither a file nor the tag tells it."""
    try:
        files = find_model(config.base_name, config.model_step, config.base_source)
    except ValueError:
        by_tag = _DEPTH.fullmatch(config.base_name)
        if by_tag is None:
            raise
        return KnownShape(shape_of_depth(int(by_tag[1])), "its tag, for it has not been downloaded")
    return KnownShape(shape_in(files), "its meta file")


def shape_of_depth(depth: int) -> GPTConfig:
    """nanochat's shape of this depth (d20, d32, d34), in the generation of the published ones, A."""
    channels = depth * _CHANNELS_PER_LAYER
    heads = max(1, -(-channels // _CHANNELS_PER_HEAD))
    if channels % heads:  # as nanochat rounds: d13 has 7 heads of 118 channels and some left over
        raise ValueError(f"A model of depth {depth} has no whole number of channels per head. Use an even depth.")
    return GPTConfig(n_layer=depth, n_head=heads, n_kv_head=heads, n_embd=channels)


def shape_in(files: ModelFiles) -> GPTConfig:
    """The shape of a checkpoint on disk. The weights are not read, only the list of their names is."""
    known = {"sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd", "window_pattern"}
    try:
        given = json.loads(Path(files.meta).read_text(encoding="utf-8"))["model_config"]
        values = {name: value for name, value in given.items() if name in known and value is not None}
        return GPTConfig(**{"n_kv_head": values["n_head"], **values}, generation=_generation(files.weights))
    except (OSError, KeyError, TypeError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{files.meta} does not tell the model's shape. Download or save it again.") from error


def _generation(weights: Path) -> str:
    """Which generation has tensors of these names; C and D need the same memory, to some kilobytes."""
    try:
        with zipfile.ZipFile(weights) as archive:
            index = next(info for info in archive.infolist() if info.filename.endswith("/data.pkl"))
            with archive.open(index) as file:
                names = file.read(_MOST_INDEX)
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise ValueError(f"{weights} cannot be read as a checkpoint. Download or save it again.") from error
    marks = {"E": b"smear_gate.weight", "D": b"ve_gate.weight", "B": b"resid_lambdas"}
    return next((letter for letter, mark in marks.items() if mark in names), "A")
