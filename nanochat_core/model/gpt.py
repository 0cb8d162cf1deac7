"""nanochat's transformer, generations A to E, in pure torch: training over packed rows, and cached decoding.

Written from the formulae (nanochat-format: generations of the architecture). Parameters keep the names of
nanochat's checkpoints. The parameters' dtype and the computation's are separate and explicit: weights are
cast where they are used to `model.compute_dtype`, and there is no autocast.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat_core.model.attention import Layout
from nanochat_core.model.batch import Batch
from nanochat_core.model.blocks import Block, Context, Embedding, Linear, pick
from nanochat_core.model.decode_step import DecodeStep, decode_step
from nanochat_core.model.functions import NORM_EPSILON, RotaryTable, norm
from nanochat_core.model.kv_cache import KVCache
from nanochat_core.model.loss import SOFTCAP, cross_entropy_gradient, cross_entropy_sum, token_nats
from nanochat_core.model.shape import GENERATIONS, GPTConfig

__all__ = ["GPT", "NORM_EPSILON", "GPTConfig", "Weigh"]

Weigh = Callable[[Batch, Tensor], Tensor]
"""From a batch and the nats of its K supervised tokens to their weights in the loss, fp32 (K,), on the device."""


class Transformer(nn.Module):
    """The table of the tokens and the blocks, under the names of nanochat's checkpoints."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.wte = Embedding(config.vocab_rows, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))

    @property
    def blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.h))


class GPT(nn.Module):
    """The whole model. `compute_dtype` is the precision of activations and matrix products."""

    def __init__(self, config: GPTConfig, compute_dtype: torch.dtype = torch.float32):
        super().__init__()
        self.config = config
        self.generation = GENERATIONS[config.generation]
        self.compute_dtype = compute_dtype
        self.transformer = Transformer(config)
        self.lm_head = Linear(config.n_embd, config.vocab_rows)
        if self.generation.has_lambdas:
            self.resid_lambdas = nn.Parameter(torch.ones(config.n_layer))
            self.x0_lambdas = nn.Parameter(torch.zeros(config.n_layer))
        if self.generation.value_gate_width:
            layers = [layer for layer in range(config.n_layer) if config.has_value_embedding(layer)]
            width = config.n_kv_head * config.head_dim
            self.value_embeds = nn.ModuleDict({str(layer): Embedding(config.vocab_rows, width) for layer in layers})
        if self.generation.has_smear:
            self.smear_gate = Linear(24, 1)
            self.smear_lambda = nn.Parameter(torch.zeros(1))
            self.backout_lambda = nn.Parameter(torch.zeros(1))
        self.rotary = RotaryTable(self.generation, config.head_dim, config.sequence_len)
        self.decoder: DecodeStep | None = None
        self.is_adapted = False
        """Whether an adapter hangs at its matrices (`adapters.attach`)."""

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def head(self) -> Tensor:
        """The head (V, C) as it is computed with, without gradient; its `weight` may have no memory of its own."""
        return self.lm_head.cast(self.compute_dtype)[: self.config.vocab_size]

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
            return self._logits(self.hidden(ids, Layout.of(ids.shape, lengths).to(ids.device)))
        count = int((targets != -1).sum())
        if count == 0:
            raise ValueError("No token of this batch is trained on (every target is -1), so it has no mean loss.")
        return self.loss_sum(ids, targets, lengths) / count

    def loss_sum(self, ids: Tensor, targets: Tensor, lengths: list[int] | None = None) -> Tensor:
        """Sum of nats over the targets that are not -1 (fp32, differentiable); 0 when there are none."""
        hidden, wanted = self._supervised(ids, targets, lengths)
        return cross_entropy_sum(hidden, self.lm_head.weight[: self.config.vocab_size], wanted)

    def token_nats(self, ids: Tensor, targets: Tensor, lengths: list[int] | None = None) -> tuple[Tensor, Tensor]:
        """(nats, target ids) of every supervised target in order, without gradient."""
        with torch.no_grad():
            hidden, wanted = self._supervised(ids, targets, lengths)
            return token_nats(hidden, self.head, wanted), wanted

    def add_gradients(self, batch: Batch, scale: float, weigh: Weigh | None = None) -> tuple[Tensor, Tensor]:
        """Add the gradient of scale * the batch's sum of nats to the `.grad` of every trained parameter, all present.

        Returns (scale * that sum, fp32; the nats of each supervised token, (K,)), and reads nothing back from the
        device. weigh: as of `head_gradients`. The numbers of `(scale * loss_sum).backward()` with less work: the
        head's gradient goes straight to its place.
        """
        hidden = self.hidden(batch.ids, batch.layout, batch.wanted)[0]
        loss, gradient, nats = self.head_gradients(hidden.detach(), batch, scale, weigh)
        hidden.backward(gradient)
        return loss, nats

    def head_gradients(
        self, hidden: Tensor, batch: Batch, scale: float, weigh: Weigh | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(scale * sum of nats, its gradient with respect to `hidden` (K, C), nats (K,)) of the supervised tokens.

        The head's gradient is added to its `.grad`, where it is trained. weigh: makes of the batch and its nats the
        weights of its tokens, instead of `batch.weights`; the head is then computed twice.
        """
        weights, matrix, grad = batch.weights, self.head, self.lm_head.weight.grad
        grad_head = None if grad is None else grad[: len(matrix)]
        if weigh is not None:
            weights = weigh(batch, token_nats(hidden, matrix, batch.labels))
        return cross_entropy_gradient(hidden, matrix, batch.labels, scale, grad_head, weights)

    @contextlib.contextmanager
    def casts_kept(self, part: nn.Module | None = None) -> Iterator[None]:
        """In the block the matrices are cast to compute_dtype once, not at each use; no weight may change in it.

        part: whose matrices, of the whole model without it. What has a copy already keeps it.
        """
        modules = (self if part is None else part).modules()
        matrices = [module for module in modules if isinstance(module, Linear) and module.kept is None]
        for matrix in matrices:
            matrix.kept = matrix.weight.detach().to(self.compute_dtype)
        try:
            yield
        finally:
            for matrix in matrices:
                matrix.kept = None

    def hidden(self, ids: Tensor, layout: Layout, wanted: Tensor | None = None) -> Tensor:
        """The normed output of the last block, (B, T, C) in compute_dtype, before the head.

        With `wanted`, the indices of K of the B * T tokens, (1, K, C): the last block computes only what they need.
        """
        return self._run(self.enter(ids, layout), ids, self.context(layout), wanted)

    def context(self, layout: Layout) -> Context:
        """What every layer needs of packed rows."""
        cos, sin = self._rotary_at(layout.positions, layout.longest)
        return Context(cos, sin, layout=layout)

    def enter(self, ids: Tensor, layout: Layout) -> Tensor:
        """What enters the first block, (B, T, C) in compute_dtype."""
        before = None
        if self.generation.has_smear:  # the token before, except at the start of a conversation
            embedded = self._embed(ids)
            before = F.pad(embedded, (0, 0, 1, 0))[:, :-1] * (layout.positions != 0)[..., None].to(embedded.dtype)
        return self._smeared(ids, before)

    def through(
        self, layer: int, x: Tensor, start: Tensor, ids: Tensor, context: Context, wanted: Tensor | None = None
    ) -> Tensor:
        """The stream x (B, T, C) after block `layer`; start: what entered the first one; wanted: for the last one."""
        if self.generation.has_lambdas:
            x = self.resid_lambdas[layer].to(x.dtype) * x + self.x0_lambdas[layer].to(x.dtype) * start
        value_embedding = None
        if self.config.has_value_embedding(layer):
            value_embedding = cast("Embedding", self.value_embeds[str(layer)]).rows(ids).to(x.dtype)
        is_last = layer == self.config.n_layer - 1
        return self.transformer.blocks[layer](x, value_embedding, context, wanted if is_last else None)

    @property
    def middle(self) -> int | None:
        """The layer whose output is subtracted at the end; None in generations that do not."""
        return self.config.n_layer // 2 if self.generation.has_smear else None

    def leave(self, x: Tensor, middle: Tensor | None, wanted: Tensor | None) -> Tensor:
        """The normed stream after the last block. middle: the stream after the layer of that name, if there is one."""
        if middle is not None:
            x = x - self.backout_lambda.to(x.dtype) * (middle if len(middle[0]) == len(x[0]) else pick(middle, wanted))
        return norm(x)

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

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> "GPT":
        """Every `to`, `float` and the like comes here: the decode step would hold the former weights' memory."""
        self.decoder = None
        return super()._apply(fn, recurse)

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
        hidden = self._run(self._smeared(ids, before), ids, Context(cos, sin, cache=cache, positions=positions))
        cache.advance(ids, counts)
        last_real = torch.tensor(counts, device=ids.device) - 1
        return self._logits(hidden[torch.arange(len(ids), device=ids.device), last_real][:, None])

    def _run(self, start: Tensor, ids: Tensor, context: Context, wanted: Tensor | None = None) -> Tensor:
        """From what enters the first block to the final norm."""
        x, middle = start, None
        for layer in range(self.config.n_layer):
            x = self.through(layer, x, start, ids, context, wanted)
            if layer == self.middle:
                middle = x
        return self.leave(x, middle, wanted)

    def _smeared(self, ids: Tensor, before: Tensor | None) -> Tensor:
        """The embedded tokens. `before` is each position's previous embedding (generation E)."""
        x = self._embed(ids)
        if self.generation.has_smear:
            gate = self.smear_lambda.to(x.dtype) * torch.sigmoid(self.smear_gate(x[..., :24]))
            assert before is not None
            x = x + gate * before
        return x

    def _embed(self, ids: Tensor) -> Tensor:
        return norm(self.transformer.wte.rows(ids).to(self.compute_dtype))

    def _supervised(self, ids: Tensor, targets: Tensor, lengths: list[int] | None) -> tuple[Tensor, Tensor]:
        """Hidden states and targets of the supervised positions only: the head is a third of a small model's work."""
        flat = targets.reshape(-1)
        wanted = (flat != -1).nonzero().squeeze(1)
        return self.hidden(ids, Layout.of(ids.shape, lengths).to(ids.device), wanted)[0], flat[wanted]

    def _logits(self, hidden: Tensor) -> Tensor:
        raw = self.lm_head(hidden)[..., : self.config.vocab_size].float()
        return SOFTCAP * torch.tanh(raw / SOFTCAP)

    def _rotary_at(self, positions: Tensor, length: int | None = None) -> tuple[Tensor, Tensor]:
        """cos and sin, (B, T, 1, head_dim / 2), at these positions, all below `length`."""
        if length is None:
            length = int(positions.max()) + 1 if positions.numel() else 1
        cos, sin = self.rotary.of(length, positions.device)
        return cos[positions][:, :, None].to(self.compute_dtype), sin[positions][:, :, None].to(self.compute_dtype)
