"""nanochat's transformer, generations A to E, in pure torch: training over packed rows, and cached decoding.

Written from the formulae (nanochat-format: generations of the architecture). Parameters keep the names of
nanochat's checkpoints. The parameters' dtype and the computation's are separate and explicit: weights are
cast where they are used to `model.compute_dtype`, and there is no autocast.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat_core.attention import Layout, attend, causal_mask
from nanochat_core.cache import KVCache
from nanochat_core.decoding import DecodeStep, decode_step
from nanochat_core.generations import GENERATIONS
from nanochat_core.loss import SOFTCAP, cross_entropy_sum, token_nats
from nanochat_core.rotary import RotaryTable, rotate

NORM_EPSILON = 1.1920929e-07  # float32's; nanochat leaves it at torch's default


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a model: the `model_config` of nanochat's meta_*.json, and what its weights add to that."""

    sequence_len: int = 2048
    vocab_size: int = 65536
    n_layer: int = 32
    n_head: int = 16
    n_kv_head: int = 16
    n_embd: int = 2048
    window_pattern: str = "L"
    generation: str = "A"
    padded_vocab_size: int = 0
    """Rows of the embedding table where they are more than vocab_size; 0 when they are not."""

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    @property
    def vocab_rows(self) -> int:
        return max(self.padded_vocab_size, self.vocab_size)

    def window(self, layer: int) -> int | None:
        """Sliding window of a layer in tokens; None when it sees everything before it."""
        letter = self.window_pattern[layer % len(self.window_pattern)].upper()
        if self.generation == "A" or letter == "L" or layer == self.n_layer - 1:
            return None
        return GENERATIONS[self.generation].short_window(self.sequence_len)

    def has_value_embedding(self, layer: int) -> bool:
        """Every other layer, the last included."""
        return GENERATIONS[self.generation].value_gate_width > 0 and layer % 2 == (self.n_layer - 1) % 2

    def to_meta(self) -> dict:
        """nanochat's `model_config`: what the weights tell by themselves is left out."""
        values = asdict(self)
        del values["generation"], values["padded_vocab_size"]
        if self.generation == "A":  # its nanochat has no such argument
            del values["window_pattern"]
        return values


class Linear(nn.Linear):
    """A matrix without bias, cast to the input's dtype where it is used."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Attention(nn.Module):
    """Causal self-attention: rotary positions first, then the norm of q and k."""

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

    def forward(self, x: Tensor, value_embedding: Tensor | None, context: "_Context") -> Tensor:
        B, T, _ = x.shape
        q = self.c_q(x).view(B, T, self.config.n_head, -1)
        k = self.c_k(x).view(B, T, self.config.n_kv_head, -1)
        v = self.c_v(x).view(B, T, self.config.n_kv_head, -1)
        if value_embedding is not None:
            gate = self.generation.value_gate_scale * torch.sigmoid(self.ve_gate(x[..., : self.ve_gate.in_features]))
            v = v + gate[..., None] * value_embedding.view_as(v)
        q, k = (norm(rotate(t, context.cos, context.sin)) for t in (q, k))
        if self.generation.qk_scale != 1.0:
            q, k = q * self.generation.qk_scale, k * self.generation.qk_scale
        window = self.config.window(self.layer)
        if context.cache is None:
            y = attend(q, k, v, context.layout, window)
        else:
            y = self._attend_cached(q, k, v, context, window)
        return self.c_proj(y.reshape(B, T, -1))

    def _attend_cached(self, q: Tensor, k: Tensor, v: Tensor, context: "_Context", window: int | None) -> Tensor:
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
        return self.c_proj(F.relu(self.c_fc(x)).square())


class Block(nn.Module):
    """Attention and MLP, each on the normed stream and added to it."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.attn = Attention(config, layer)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, value_embedding: Tensor | None, context: "_Context") -> Tensor:
        x = x + self.attn(norm(x), value_embedding, context)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """The whole model. `compute_dtype` is the precision of activations and matrix products."""

    def __init__(self, config: GPTConfig, compute_dtype: torch.dtype = torch.float32):
        super().__init__()
        self.config = config
        self.generation = GENERATIONS[config.generation]
        self.compute_dtype = compute_dtype
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_rows, config.n_embd),
                "h": nn.ModuleList(Block(config, layer) for layer in range(config.n_layer)),
            }
        )
        self.lm_head = Linear(config.n_embd, config.vocab_rows)
        if self.generation.has_lambdas:
            self.resid_lambdas = nn.Parameter(torch.ones(config.n_layer))
            self.x0_lambdas = nn.Parameter(torch.zeros(config.n_layer))
        if self.generation.value_gate_width:
            layers = [layer for layer in range(config.n_layer) if config.has_value_embedding(layer)]
            width = config.n_kv_head * config.head_dim
            self.value_embeds = nn.ModuleDict({str(layer): nn.Embedding(config.vocab_rows, width) for layer in layers})
        if self.generation.has_smear:
            self.smear_gate = Linear(24, 1)
            self.smear_lambda = nn.Parameter(torch.zeros(1))
            self.backout_lambda = nn.Parameter(torch.zeros(1))
        self.rotary = RotaryTable(self.generation, config.head_dim, config.sequence_len)
        self.decoder: DecodeStep | None = None

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    def forward(
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        *,
        lengths: list[int] | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits or loss of `ids`, a LongTensor (B, T).

        Without targets: fp32 logits (B, T, vocab_size). With `targets` (B, T): the mean nats over those that
        are not -1 (ValueError when all are). `lengths` says that the B * T tokens are conversations of these
        lengths laid end to end: none sees another, and positions restart. With a `cache`: `ids` continue its
        rows, `lengths` then gives each row's number of real tokens (the rest is padding at its end), and the
        result is the logits at each row's last real token, (B, 1, vocab_size).
        """
        if cache is not None:
            return self._continue(ids, cache, lengths or [ids.shape[1]] * len(ids))
        if targets is None:
            return self._logits(self.hidden(ids, lengths))
        count = int((targets != -1).sum())
        if count == 0:
            raise ValueError("No token of this batch is trained on (every target is -1), so it has no mean loss.")
        return self.loss_sum(ids, targets, lengths) / count

    def loss_sum(self, ids: Tensor, targets: Tensor, lengths: list[int] | None = None) -> Tensor:
        """Sum of nats over the targets that are not -1 (fp32, differentiable); 0 when there are none."""
        hidden, kept = self._supervised(ids, targets, lengths)
        return cross_entropy_sum(hidden, self.lm_head.weight[: self.config.vocab_size], kept)

    def token_nats(self, ids: Tensor, targets: Tensor, lengths: list[int] | None = None) -> tuple[Tensor, Tensor]:
        """(nats, target ids) of every supervised target in order, without gradient."""
        with torch.no_grad():
            hidden, kept = self._supervised(ids, targets, lengths)
            return token_nats(hidden, self.lm_head.weight[: self.config.vocab_size], kept), kept

    def hidden(self, ids: Tensor, lengths: list[int] | None = None) -> Tensor:
        """The normed output of the last block, (B, T, C) in compute_dtype, before the head."""
        layout = Layout.of(ids.shape, lengths, ids.device)
        cos, sin = self._rotary_at(layout.positions)
        before = None
        if self.generation.has_smear:  # the token before, except at the start of a conversation
            embedded = self._embed(ids)
            before = F.pad(embedded, (0, 0, 1, 0))[:, :-1] * (layout.positions != 0)[..., None].to(embedded.dtype)
        return self._run(ids, before, _Context(cos, sin, layout=layout))

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `batch` rows of up to `capacity` tokens."""
        config = self.config
        shape = (config.n_layer, batch, config.n_kv_head, capacity, config.head_dim)
        return KVCache(shape, self.compute_dtype, self.device)

    @torch.no_grad()
    def init_weights(self, seed: int = 0) -> "GPT":
        """nanochat's initialisation: wide-aspect-scaled normal matrices, zero output projections, unit embeddings."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight") or name == "lm_head.weight" or name.endswith("gate.weight"):
                parameter.zero_()
            elif name.endswith(("wte.weight",)) or name.startswith("value_embeds."):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            elif parameter.ndim == 2:
                fan_out, fan_in = parameter.shape
                std = fan_in**-0.5 * min(1.0, (fan_out / fan_in) ** 0.5)
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
        return self

    def _continue(self, ids: Tensor, cache: KVCache, counts: list[int]) -> Tensor:
        if self.decoder is None:
            self.decoder = decode_step(self)
        logits = self.decoder(ids, cache, counts) if self.decoder is not None else None
        return self._continue_by_torch(ids, cache, counts) if logits is None else logits

    @torch.no_grad()
    def _continue_by_torch(self, ids: Tensor, cache: KVCache, counts: list[int]) -> Tensor:
        positions = cache.positions(ids.shape[1])
        cos, sin = self._rotary_at(positions)
        before = None
        if self.generation.has_smear:
            last = cache.ids.gather(1, (positions[:, :1] - 1).clamp(min=0))
            before = self._embed(torch.cat([last, ids[:, :-1]], 1))
            before = before * (positions != 0)[..., None].to(before.dtype)
        hidden = self._run(ids, before, _Context(cos, sin, cache=cache, positions=positions))
        cache.advance(ids, counts)
        last_real = torch.tensor(counts, device=ids.device) - 1
        return self._logits(hidden[torch.arange(len(ids), device=ids.device), last_real][:, None])

    def _run(self, ids: Tensor, before: Tensor | None, context: "_Context") -> Tensor:
        """Token ids to the final norm. `before` is each position's previous embedding (generation E)."""
        x = self._embed(ids)
        if self.generation.has_smear:
            gate = self.smear_lambda.to(x.dtype) * torch.sigmoid(self.smear_gate(x[..., :24]))
            x = x + gate * before
        start = x
        for layer, block in enumerate(self.transformer.h):
            if self.generation.has_lambdas:
                x = self.resid_lambdas[layer].to(x.dtype) * x + self.x0_lambdas[layer].to(x.dtype) * start
            value_embedding = None
            if self.config.has_value_embedding(layer):
                value_embedding = self.value_embeds[str(layer)](ids).to(x.dtype)
            x = block(x, value_embedding, context)
            if self.generation.has_smear and layer == self.config.n_layer // 2:
                middle = x
        if self.generation.has_smear:
            x = x - self.backout_lambda.to(x.dtype) * middle
        return norm(x)

    def _embed(self, ids: Tensor) -> Tensor:
        return norm(self.transformer.wte(ids).to(self.compute_dtype))

    def _supervised(self, ids: Tensor, targets: Tensor, lengths: list[int] | None) -> tuple[Tensor, Tensor]:
        """Hidden states and targets of the supervised positions only: the head is a third of a small model's work."""
        flat = targets.reshape(-1)
        kept = (flat != -1).nonzero().squeeze(1)
        return self.hidden(ids, lengths).reshape(-1, self.config.n_embd)[kept], flat[kept]

    def _logits(self, hidden: Tensor) -> Tensor:
        raw = self.lm_head(hidden)[..., : self.config.vocab_size].float()
        return SOFTCAP * torch.tanh(raw / SOFTCAP)

    def _rotary_at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, (B, T, 1, head_dim / 2), at these positions."""
        cos, sin = self.rotary.of(int(positions.max()) + 1 if positions.numel() else 1, positions.device)
        return cos[positions][:, :, None].to(self.compute_dtype), sin[positions][:, :, None].to(self.compute_dtype)


class _Context:
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
        """Which of `keys` cached positions each new token sees, (B, 1, T, keys); None when all. Made once a window."""
        if window not in self._masks:
            one_row_one_token = self.positions.shape == (1, 1)
            sees_all = one_row_one_token and (window is None or keys <= window + 1)
            mask = None if sees_all else causal_mask(self.positions, keys, window)[:, None]
            self._masks[window] = mask
        return self._masks[window]


def norm(x: Tensor) -> Tensor:
    """RMS norm over the last dimension, without weights."""
    return F.rms_norm(x, (x.shape[-1],), eps=NORM_EPSILON)
