"""A model as the folder that transformers' NanoChat classes load: weights, configurations, tokenizer, chat template."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanochat_core.checkpoint.adapters import MODULE_NAMES
from nanochat_core.export.safetensors import write_shards
from nanochat_core.export.tokenizer_json import BOS, END, tokenizer_config, tokenizer_json
from nanochat_core.model.gpt import GPT, NORM_EPSILON, GPTConfig
from nanochat_core.model.loss import SOFTCAP
from nanochat_core.model.shape import GENERATIONS
from nanochat_core.tokenizer.pickle_file import EncodingState

_DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def check_exportable(config: GPTConfig) -> None:
    """ValueError when transformers has no model of this generation."""
    if config.generation != "A":
        raise ValueError(
            f"This model is of nanochat's generation {config.generation}; transformers has a model for generation A "
            "(of 2025) only. Export it with --format nanochat, or answer other programs with the command serve."
        )


def write_transformers(folder: Path, model: GPT, encoding: EncodingState, dtype: torch.dtype) -> None:
    """Fill the empty `folder`. `dtype` is that of the weights, and of a computation that is told no other."""
    write_shards(folder, renamed_weights(model), dtype)
    contents = {
        "config.json": model_settings(model.config, encoding, dtype),
        "generation_config.json": generation_settings(encoding),
        "tokenizer.json": tokenizer_json(encoding),
        "tokenizer_config.json": tokenizer_config(model.config.sequence_len),
    }
    for file_name, content in contents.items():  # in ASCII: the template's marks are invisible otherwise
        (folder / file_name).write_text(json.dumps(content, indent=2) + "\n", encoding="ascii")


def renamed_weights(model: GPT) -> dict[str, Tensor]:
    """The weights under transformers' names, in the order in which they are used.

    No matrix is transposed or permuted. Rows that pad the vocabulary are left out: no token has them.
    """
    weights = dict(model.named_parameters())
    rows = model.config.vocab_size
    renamed = {"model.embed_tokens.weight": weights["transformer.wte.weight"][:rows]}
    for layer in range(model.config.n_layer):
        for ours, theirs in MODULE_NAMES.items():
            renamed[f"model.layers.{layer}.{theirs}.weight"] = weights[f"transformer.h.{layer}.{ours}.weight"]
    renamed["lm_head.weight"] = weights["lm_head.weight"][:rows]
    return renamed


def model_settings(config: GPTConfig, encoding: EncodingState, dtype: torch.dtype) -> dict[str, Any]:
    """The content of config.json. All that transformers' defaults get wrong for nanochat is set."""
    rope_base = GENERATIONS[config.generation].rope_base
    return {
        "architectures": ["NanoChatForCausalLM"],
        "model_type": "nanochat",
        "dtype": _DTYPE_NAMES[dtype],
        "vocab_size": config.vocab_size,
        "hidden_size": config.n_embd,
        "intermediate_size": 4 * config.n_embd,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "max_position_embeddings": config.sequence_len,
        "hidden_act": "relu2",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rms_norm_eps": NORM_EPSILON,
        "rope_theta": rope_base,  # where mlx-lm looks for it
        "rope_parameters": {"rope_type": "default", "rope_theta": rope_base},
        "final_logit_softcapping": SOFTCAP,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": encoding.special_tokens[BOS],
        "eos_token_id": encoding.special_tokens[END],
        "pad_token_id": encoding.special_tokens[END],
    }


def generation_settings(encoding: EncodingState) -> dict[str, Any]:
    """The content of generation_config.json: a reply ends at <|assistant_end|>, and where the next document begins."""
    bos, end = encoding.special_tokens[BOS], encoding.special_tokens[END]
    return {"bos_token_id": bos, "eos_token_id": [end, bos], "pad_token_id": end}
