"""The transformer's blocks: attention and MLP of every generation, over packed rows or with a cache."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat_core.model.attention import Layout, attend, causal_mask
from nanochat_core.model.functions import lookup, norm, product, rotate_and_norm, squared_relu_mlp
from nanochat_core.model.kv_cache import KVCache
from nanochat_core.model.shape import GENERATIONS, GPTConfig


class Linear(nn.Linear):
    """A matrix without bias, cast to the input's dtype where it is used."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)
        self.kept: Tensor | None = None
        """A cast that is used instead, while the weight stays as it is (`GPT.casts_kept`), or has no memory at all."""

    def forward(self, x: Tensor) -> Tensor:
        """x times the transposed matrix, in the type of x."""
        if torch.is_grad_enabled():
            return product(x, self.weight, self.cast(x.dtype))
        return F.linear(x, self.cast(x.dtype))

    def cast(self, dtype: torch.dtype) -> Tensor:
        """The matrix in `dtype`, without gradient."""
        return self.kept if self.kept is not None else self.weight.detach().to(dtype)


class Embedding(nn.Embedding):
    """A table in which a token looks up one row."""

    kept: Tensor | None = None
    """A copy in another dtype from which rows are read instead, where the weight itself has no memory."""

    def rows(self, ids: Tensor) -> Tensor:
        """The rows of `ids`: (*ids, C)."""
        return lookup(ids, self.weight, self.kept)

    def reset_parameters(self) -> None:
        """Fill the matrix at random, unless it has no memory yet."""
        if not self.weight.is_meta:  # for nothing to fill torch would import its compiler: 1 to 2 s
            super().reset_parameters()


class Attention(nn.Module):
    """Causal self-attention up to its last matrix, c_proj: rotary positions first, then the norm of q and k."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.config, self.layer = config, layer
        self.generation = GENERATIONS[config.generation]
        heads, kv_heads, size = config.n_head, config.n_kv_head, config.head_dim
        self.c_q = Linear(config.n_embd, heads * size)
        self.c_k = Linear(config.n_embd, kv_heads * size)
        self.c_v = Linear(config.n_embd, kv_heads * size)
        self.c_proj = Linear(heads * size, config.n_embd)
        if config.has_value_embedding(layer):
            self.ve_gate = Linear(self.generation.value_gate_width, kv_heads)

    def forward(self, x: Tensor, value_embedding: Tensor | None, context: "Context") -> Tensor:
        """x (B, T, C) -> the heads' answers (B, T, C), before c_proj."""
        B, T, _ = x.shape
        q = self.c_q(x).view(B, T, self.config.n_head, -1)
        k = self.c_k(x).view(B, T, self.config.n_kv_head, -1)
        v = self.c_v(x).view(B, T, self.config.n_kv_head, -1)
        if value_embedding is not None:
            gate = self.generation.value_gate_scale * torch.sigmoid(self.ve_gate(x[..., : self.ve_gate.in_features]))
            v = v + gate[..., None] * value_embedding.view_as(v)
        q, k = (rotate_and_norm(t, context.cos, context.sin, self.generation.qk_scale) for t in (q, k))
        window = self.config.window(self.layer)
        if context.layout is not None:
            y = attend(q, k, v, context.layout, window)
        else:
            y = self._attend_cached(q, k, v, context, window)
        return y.reshape(B, T, -1)

    def _attend_cached(self, q: Tensor, k: Tensor, v: Tensor, context: "Context", window: int | None) -> Tensor:
        assert context.cache is not None
        keys, values = context.cache.append(self.layer, k.transpose(1, 2), v.transpose(1, 2))
        grouped = self.config.n_kv_head != self.config.n_head
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2), keys, values, attn_mask=context.mask(keys.shape[2], window), enable_gqa=grouped
        )
        return y.transpose(1, 2)


class MLP(nn.Module):
    """relu(x)^2, four times as wide."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        up, down = self.c_fc, self.c_proj
        if not (torch.is_grad_enabled() and up.weight.requires_grad):  # the matrices may be of another kind
            return down(F.relu(up(x)).square())
        return squared_relu_mlp(x, up.weight, up.cast(x.dtype), down.weight, down.cast(x.dtype))


class Block(nn.Module):
    """Attention and MLP, each on the normed stream and added to it."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.attn = Attention(config, layer)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, value_embedding: Tensor | None, context: "Context", wanted: Tensor | None = None
    ) -> Tensor:
        """The stream x (B, T, C) after this block; with `wanted`, the indices of K tokens, theirs alone (1, K, C)."""
        mixed = self.attn(norm(x), value_embedding, context)
        x, mixed = pick(x, wanted), pick(mixed, wanted)
        x = x + self.attn.c_proj(mixed)
        return x + self.mlp(norm(x))


class Context:
    """What every layer of one pass needs: the rotary angles, and either the layout of the rows or the cache."""

    def __init__(
        self,
        cos: Tensor,
        sin: Tensor,
        *,
        layout: Layout | None = None,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
    ):
        self.cos, self.sin, self.layout, self.cache, self.positions = cos, sin, layout, cache, positions
        self._masks: dict[int | None, Tensor | None] = {}

    def mask(self, keys: int, window: int | None) -> Tensor | None:
        """Which of `keys` cached positions each new token sees, (B, 1, T, keys); None: all. Made once per window."""
        if window not in self._masks:
            assert self.positions is not None
            one_row_one_token = self.positions.shape == (1, 1)
            sees_all = one_row_one_token and (window is None or keys <= window + 1)
            mask = None if sees_all else causal_mask(self.positions, keys, window)[:, None]
            self._masks[window] = mask
        return self._masks[window]


def pick(x: Tensor, wanted: Tensor | None) -> Tensor:
    """The tokens of x (B, T, C) at the indices `wanted` (K,), as (1, K, C); all of them when it is None."""
    return x if wanted is None else x.flatten(0, 1).index_select(0, wanted)[None]
