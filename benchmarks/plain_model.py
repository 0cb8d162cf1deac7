"""The model as most people write it, for comparison: generation A in torch's own modules, without any of our speed.

It is kept apart from nanochat_core, so that what is compared with does not become faster with it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat_core.model.gpt import GPT, NORM_EPSILON


class PlainGPT(nn.Module):
    """Logits (B, T, V) of ids (B, T), a conversation a row; with the weights of `model`."""

    def __init__(self, model: GPT):
        super().__init__()
        self.config = model.config
        C, V = self.config.n_embd, self.config.vocab_size
        self.wte, self.lm_head = nn.Embedding(V, C), nn.Linear(C, V, bias=False)
        self.blocks = nn.ModuleList(nn.ModuleDict(_matrices(C)) for _ in range(self.config.n_layer))
        self.load_state_dict({_plain_name(name): tensor for name, tensor in model.named_parameters()})
        cos, sin = model.rotary.of(self.config.sequence_len, torch.device("cpu"))
        self.cos, self.sin = cos[:, None], sin[:, None]

    def forward(self, ids: Tensor) -> Tensor:
        x = _norm(self.wte(ids))
        for block in self.blocks:
            x = x + self._attention(block, _norm(x))
            x = x + block["down"](F.relu(block["up"](_norm(x))).square())
        return 15 * torch.tanh(self.lm_head(_norm(x)) / 15)

    def _attention(self, block: nn.ModuleDict, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (block[name](x).view(B, T, self.config.n_head, -1) for name in "qkv")
        q, k = (_norm(self._rotate(t)) for t in (q, k))
        y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True)
        return block["out"](y.transpose(1, 2).reshape(B, T, C))

    def _rotate(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        return torch.cat([first * cos + second * sin, second * cos - first * sin], -1).to(x.dtype)


def _matrices(C: int) -> dict[str, nn.Linear]:
    sizes = {"q": (C, C), "k": (C, C), "v": (C, C), "out": (C, C), "up": (C, 4 * C), "down": (4 * C, C)}
    return {name: nn.Linear(*size, bias=False) for name, size in sizes.items()}


def _plain_name(name: str) -> str:
    name = name.replace("transformer.wte", "wte").replace("transformer.h", "blocks")
    for theirs, plain in {"attn.c_proj": "out", "mlp.c_fc": "up", "mlp.c_proj": "down", "attn.c_": ""}.items():
        name = name.replace(theirs, plain)
    return name


def _norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), eps=NORM_EPSILON)
