"""The same model in transformers, and how far its numbers are from ours."""

from pathlib import Path

import torch


def relative(value: torch.Tensor, expected: torch.Tensor) -> float:
    """How far `value` is from `expected`, as a share of its size."""
    return ((value.double() - expected.double()).norm() / expected.double().norm()).item()


def loaded(folder: Path, **options):
    """What transformers reads of an export."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def transformers_twin(model):
    """transformers' NanoChatForCausalLM with the same weights."""
    from transformers import NanoChatConfig, NanoChatForCausalLM

    config = model.config
    twin = NanoChatForCausalLM(
        NanoChatConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.n_embd,
            intermediate_size=4 * config.n_embd,
            num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_head,
            num_key_value_heads=config.n_kv_head,
            max_position_embeddings=config.sequence_len,
            rope_theta=10_000.0,
            final_logit_softcapping=15.0,
            hidden_act="relu2",
            rms_norm_eps=1.1920929e-07,
            bos_token_id=503,
            eos_token_id=507,
            pad_token_id=507,
            tie_word_embeddings=False,
        )
    )
    twin.load_state_dict(transformers_names(dict(model.named_parameters())))
    return twin.eval()


def transformers_names(weights: dict) -> dict:
    """nanochat's names to transformers'."""
    pairs = {"c_q": "q_proj", "c_k": "k_proj", "c_v": "v_proj"}
    renamed = {}
    for name, tensor in weights.items():
        new = name.replace("transformer.wte", "model.embed_tokens").replace("transformer.h.", "model.layers.")
        new = new.replace(".mlp.c_fc", ".mlp.fc1").replace(".mlp.c_proj", ".mlp.fc2")
        new = new.replace(".attn.c_proj", ".self_attn.o_proj")
        for ours, theirs in pairs.items():
            new = new.replace(f".attn.{ours}", f".self_attn.{theirs}")
        renamed[new] = tensor.detach().float()
    return renamed


def rounded_angles(twin):
    """Let transformers round cos and sin to bf16, as nanochat does."""
    rotary = twin.model.rotary_emb.forward
    twin.model.rotary_emb.forward = lambda *args, **names: tuple(t.bfloat16().float() for t in rotary(*args, **names))
    return twin
