"""The forward pass of every generation, token by token and without any speed, from the table of formulae alone.

Written for comparison: no code of nanochat_core is used, only the weights by their names.
"""

import math

import torch

EPSILON = 1.1920929e-07


def reference_logits(weights: dict, config: dict, ids: list[int]) -> torch.Tensor:
    """fp64 logits (T, vocab_size) for one conversation. `config` is the model_config plus its generation."""
    w = {name: tensor.double() for name, tensor in weights.items()}
    letter, layers, length = config["generation"], config["n_layer"], len(ids)
    later = letter != "A"
    embedded = [_norm(w["transformer.wte.weight"][token]) for token in ids]
    x = torch.stack(embedded)
    if letter == "E":
        for t in range(1, length):
            gate = torch.sigmoid(w["smear_gate.weight"] @ embedded[t][:24])
            x[t] = embedded[t] + w["smear_lambda"] * gate * embedded[t - 1]
    x0 = x.clone()
    middle = None
    for layer in range(layers):
        if later:
            x = w["resid_lambdas"][layer] * x + w["x0_lambdas"][layer] * x0
        x = x + _attention(w, config, layer, torch.stack([_norm(row) for row in x]), ids)
        hidden = torch.stack([_norm(row) for row in x]) @ w[f"transformer.h.{layer}.mlp.c_fc.weight"].T
        x = x + hidden.clamp(min=0) ** 2 @ w[f"transformer.h.{layer}.mlp.c_proj.weight"].T
        if layer == layers // 2:
            middle = x.clone()
    if letter == "E":
        x = x - w["backout_lambda"] * middle
    logits = torch.stack([_norm(row) for row in x]) @ w["lm_head.weight"].T
    return 15 * torch.tanh(logits[:, : config["vocab_size"]] / 15)


def _attention(w: dict, config: dict, layer: int, x: torch.Tensor, ids: list[int]) -> torch.Tensor:
    letter, heads, kv_heads = config["generation"], config["n_head"], config["n_kv_head"]
    size, length = config["n_embd"] // heads, len(x)
    name = f"transformer.h.{layer}.attn."
    q = (x @ w[name + "c_q.weight"].T).view(length, heads, size)
    k = (x @ w[name + "c_k.weight"].T).view(length, kv_heads, size)
    v = (x @ w[name + "c_v.weight"].T).view(length, kv_heads, size)
    if letter in "CDE" and layer % 2 == (config["n_layer"] - 1) % 2:
        width, scale = (32, 2) if letter == "C" else (12, 3)
        gates = scale * torch.sigmoid(x[:, :width] @ w[name + "ve_gate.weight"].T)
        v = v + gates[..., None] * w[f"value_embeds.{layer}.weight"][ids].view(length, kv_heads, size)
    factor = {"D": 1.15, "E": 1.2}.get(letter, 1.0)
    base = 100_000 if letter in "DE" else 10_000
    q = torch.stack([torch.stack([_norm(_turn(h, t, base, letter)) for h in q[t]]) for t in range(length)]) * factor
    k = torch.stack([torch.stack([_norm(_turn(h, t, base, letter)) for h in k[t]]) for t in range(length)]) * factor
    window = _window(config, layer)
    out = torch.zeros(length, heads, size, dtype=torch.float64)
    for head in range(heads):
        shared = head // (heads // kv_heads)
        for t in range(length):
            seen = [s for s in range(t + 1) if window is None or t - s <= window]
            scores = torch.stack([q[t, head] @ k[s, shared] for s in seen]) / math.sqrt(size)
            out[t, head] = torch.softmax(scores, 0) @ v[seen, shared]
    return out.view(length, -1) @ w[name + "c_proj.weight"].T


def _window(config: dict, layer: int) -> int | None:
    letter, pattern = config["generation"], config.get("window_pattern", "L")
    if letter == "A" or layer == config["n_layer"] - 1 or pattern[layer % len(pattern)] == "L":
        return None
    length = config["sequence_len"]
    return {
        "B": length // 2,
        "C": length // 2,
        "D": math.ceil(length / 3 / 128) * 128,
        "E": math.ceil(length / 4 / 128) * 128,
    }[letter]


def _turn(head: torch.Tensor, position: int, base: float, letter: str) -> torch.Tensor:
    half = len(head) // 2
    angles = position / base ** (torch.arange(half, dtype=torch.float32) / half)
    cos, sin = angles.cos(), angles.sin()
    if letter in "ABC":
        cos, sin = cos.bfloat16(), sin.bfloat16()
    cos, sin = cos.double(), sin.double()
    x1, x2 = head[:half], head[half:]
    return torch.cat([x1 * cos + x2 * sin, -x1 * sin + x2 * cos])


def _norm(x: torch.Tensor) -> torch.Tensor:
    return x / torch.sqrt((x * x).mean() + EPSILON)
