"""The compiled decode step: a few new tokens of every row of a cache, through a model on a CPU in one call.

Decoding is a stream of the weights through memory; torch's operators reach a fifth of its bandwidth, this step most of
it. It reads the model's own parameters, live, and computes what `GPT._continue` does. Activations are fp32, but
rounded as inputs of bf16, int8 and int4 matrices (c/pack.h).
"""

import ctypes
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nanochat_core.model.kv_cache import KVCache
from nanochat_core.native.build import library

if TYPE_CHECKING:
    from nanochat_core.model.gpt import GPT

_TYPES = {
    torch.float32: 0,
    torch.bfloat16: 1,
    torch.int8: 2,
    torch.uint8: 3,  # two numbers of four bits in a byte
    torch.int16: 4,  # fp32 in 28 bits a weight (c/compact.h)
}
_SCALES = {torch.int8: torch.float32, torch.uint8: torch.bfloat16, torch.int16: torch.int64}
"""Of what type a matrix's scales are, or of fp32 in 28 bits its notes, which lie in their place."""
_MATRICES = {
    "q": "attn.c_q",
    "k": "attn.c_k",
    "v": "attn.c_v",
    "o": "attn.c_proj",
    "fc": "mlp.c_fc",
    "proj": "mlp.c_proj",
}

MOST_AT_ONCE = 256
"""New tokens of a row that go through the model together."""
_NO_MEMORY, _UNKNOWN_TOKEN = 1, 2
_pointer, _count, _real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class _Layer(ctypes.Structure):
    """`layer` of c/decode.c."""

    _fields_ = [
        *((name, _pointer) for name in _MATRICES),
        *((f"{name}_scales", _pointer) for name in _MATRICES),
        *((name, _pointer) for name in ("value_table", "value_gate", "keys", "values")),
        *((name, _real) for name in ("residual", "start")),
        ("window", _count),
    ]


class _Shape(ctypes.Structure):
    """`shape` of c/decode.c."""

    _fields_ = [
        *((name, _count) for name in ("layers", "heads", "kv_heads", "size", "width", "vocabulary", "table_rows")),
        *((name, _count) for name in ("matrix_type", "table_type", "gate_type", "cache_type")),
        *((name, _count) for name in ("gate_width", "has_lambdas", "middle")),
        *((name, _real) for name in ("gate_scale", "qk_scale", "smear", "backout")),
        *((name, _pointer) for name in ("table", "head", "smear_gate", "head_scales", "cosines", "sines")),
    ]


class _Request(ctypes.Structure):
    """`request` of c/decode.c."""

    _fields_ = [
        *((name, _count) for name in ("rows", "added", "threads")),
        *((name, _pointer) for name in ("ids", "lengths", "last", "known")),
        *((name, _count) for name in ("known_apart", "row_apart", "head_apart")),
        ("logits", _pointer),
    ]


class DecodeStep:
    """The step for one model. Holds where its parameters lie, and looks with every new cache whether they still do.

    For other modules than those it was made for it has to be made again: `model.decoder = None`. Threads take turns.

    All that Python does between two tokens counts: the weights that went through the processor have left nothing else
    in its caches, so that each object it touches comes from memory. Hence so few.
    """

    def __init__(self, model: "GPT", compiled: ctypes.CDLL):
        self._model, self._compiled, self._decode = model, compiled, compiled.decode
        self._owners: list[tuple[dict[str, Any], str]] = [
            (owner, name)
            for module in model.modules()
            for owner in (module._parameters, module._buffers)
            for name, tensor in owner.items()
            if tensor is not None
        ]
        self._one_at_a_time = threading.Lock()
        blocks = model.transformer.blocks
        self._hooks = [block._forward_hooks for block in blocks]
        self._pre_hooks = [(block, block._forward_pre_hooks) for block in blocks]
        self._places: list[tuple[int, torch.dtype]] = []
        self._fits, self._most_tokens = False, 0
        self._kept: list[Tensor] = []
        self._shape = _Shape()
        self._layers = (_Layer * model.config.n_layer)()
        self._cache: Callable[[], KVCache | None] = _nothing
        self._cache_places = (0, 0)

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        """A copy of the model, or one that was pickled, finds its own."""
        return _nothing, ()

    def __call__(self, ids: Tensor, cache: KVCache, counts: list[int]) -> Tensor | None:
        """Put the new tokens `ids` (B, T) into the cache; logits (B, 1, vocab_size) at each row's last one.

        None, and nothing done, where this is not for the step and torch has to do it.
        """
        rows, added = ids.shape
        if added > MOST_AT_ONCE and counts == [added] * rows:
            return self._by_pieces(ids, cache)
        is_too_long = max(cache.lengths) + added > cache.capacity
        if is_too_long or rows != len(cache.lengths) or any(self._hooks):  # hooks want to see tensors
            return None
        with self._one_at_a_time:
            continues = added == 1 and self._cache() is cache
            if not continues and not self._takes(ids, cache):
                return None
            for block, hooks in self._pre_hooks:
                for hook in hooks.values():  # the wish to stop is noticed there
                    hook(block, ())
            logits = torch.empty((rows, 1, self._shape.vocabulary))
            outcome = self._run(ids.contiguous(), cache, counts, logits)
        if outcome == _NO_MEMORY:
            raise MemoryError("There is no memory left for the model's next token.")
        if outcome == _UNKNOWN_TOKEN:  # which torch says better
            return None
        cache.lengths = [length + count for length, count in zip(cache.lengths, counts)]
        return logits

    def _by_pieces(self, ids: Tensor, cache: KVCache) -> Tensor | None:
        """A long prompt, some of its tokens after the others, in less memory: between them a stop is heeded."""
        before, logits = cache.lengths, None
        for piece in ids.split(MOST_AT_ONCE, 1):
            logits = self(piece, cache, [piece.shape[1]] * len(ids))
            if logits is None:
                cache.lengths = before
                break
        return logits

    def _run(self, ids: Tensor, cache: KVCache, counts: list[int], logits: Tensor) -> int:
        """Have c/decode.c compute `logits`; returns its outcome."""
        rows, added = ids.shape
        keys, tables = cache.keys[0], self._model.rotary.of(max(cache.lengths) + added, cache.ids.device)
        self._point_to(cache, *tables)  # held here: another thread may replace the model's tables by longer ones
        lengths = (ctypes.c_int64 * rows)(*cache.lengths)
        last = (ctypes.c_int64 * rows)(*((count or added) - 1 for count in counts))
        request = _Request(
            rows=rows,
            added=added,
            threads=torch.get_num_threads(),
            ids=ids.data_ptr(),
            lengths=ctypes.addressof(lengths),
            last=ctypes.addressof(last),
            known=cache.ids.data_ptr(),
            known_apart=cache.ids.stride(0),
            row_apart=keys.stride(0),
            head_apart=keys.stride(1),
            logits=logits.data_ptr(),
        )
        return self._decode(ctypes.byref(self._shape), self._layers, ctypes.byref(request))

    def _takes(self, ids: Tensor, cache: KVCache) -> bool:
        """Whether the step can do this. Whether `ids` are tokens of the model is not asked.

        Not asked again while one token after the other goes into the same cache: if weights changed meanwhile, its
        keys and values would be wrong, too.
        """
        self._cache = _nothing
        if not ids.is_cpu:
            return False
        places = [(owner[name].data_ptr(), owner[name].dtype) for owner, name in self._owners]
        if places != self._places:
            self._fits = self._describe()
            self._places = places
            self._kept = [owner[name].detach() for owner, name in self._owners]
        if self._shape.matrix_type == _TYPES[torch.bfloat16] and self._model.compute_dtype != torch.bfloat16:
            return False  # inputs would be rounded where nobody asked for it
        few = self._most_tokens < 0 or ids.numel() <= self._most_tokens
        return self._fits and few and cache.keys[0].dtype in (torch.float32, torch.bfloat16)

    def _describe(self) -> bool:
        """Write down where the parameters lie and what the model is; False when it is nothing for this step."""
        model, config = self._model, self._model.config
        matrices = [self._matrix(layer, path) for layer in range(config.n_layer) for path in _MATRICES.values()]
        matrices.append(model.lm_head)
        tables = [model.transformer.wte, *getattr(model, "value_embeds", {}).values()]
        gates = [module for name, module in model.named_modules() if name.endswith("gate")]
        types = [{module.weight.dtype for module in group} for group in (matrices, tables, gates)]
        fits = (
            all(parameter.is_cpu and parameter.is_contiguous() for parameter in model.parameters())
            and all(len(found) <= 1 and found <= _TYPES.keys() for found in types)
            and all(
                module.scales.dtype == _SCALES[module.weight.dtype] for module in matrices if hasattr(module, "scales")
            )
            and config.n_embd % 64 == 0  # what the vectors of the compiled code divide
            and config.head_dim % 16 == 0
        )
        if fits:
            self._most_tokens = self._compiled.most_tokens(_TYPES[model.lm_head.weight.dtype])
            self._describe_shape(*(_TYPES[found.pop()] if found else 0 for found in types))
            for index in range(config.n_layer):
                self._describe_layer(index)
        return fits

    def _describe_shape(self, matrix_type: int, table_type: int, gate_type: int) -> None:
        model, config, generation = self._model, self._model.config, self._model.generation
        shape = self._shape
        shape.layers, shape.heads, shape.kv_heads = config.n_layer, config.n_head, config.n_kv_head
        shape.size, shape.width, shape.vocabulary = config.head_dim, config.n_embd, config.vocab_size
        shape.table_rows = config.vocab_rows
        shape.matrix_type, shape.table_type, shape.gate_type = matrix_type, table_type, gate_type
        shape.gate_width, shape.gate_scale = generation.value_gate_width, generation.value_gate_scale
        shape.has_lambdas, shape.qk_scale = generation.has_lambdas, generation.qk_scale
        shape.middle = config.n_layer // 2
        shape.table, shape.head = model.transformer.wte.weight.data_ptr(), model.lm_head.weight.data_ptr()
        shape.head_scales = _scales_of(model.lm_head)
        shape.smear_gate = model.smear_gate.weight.data_ptr() if generation.has_smear else None

    def _describe_layer(self, index: int) -> None:
        model, config, layer = self._model, self._model.config, self._layers[index]
        for name, path in _MATRICES.items():
            module = self._matrix(index, path)
            setattr(layer, name, module.weight.data_ptr())
            setattr(layer, f"{name}_scales", _scales_of(module))
        if config.has_value_embedding(index):
            layer.value_table = model.value_embeds.get_parameter(f"{index}.weight").data_ptr()
            layer.value_gate = model.transformer.blocks[index].attn.ve_gate.weight.data_ptr()
        window = config.window(index)
        layer.window = -1 if window is None else window

    def _point_to(self, cache: KVCache, cosines: Tensor, sines: Tensor) -> None:
        """Write down what may change from token to token: the cache, the rotary tables, the learned scalars."""
        model, shape = self._model, self._shape
        places = cache.keys[0].data_ptr(), cache.values[-1].data_ptr()
        if self._cache() is not cache or self._cache_places != places:  # a cache replaces all of its tensors or none
            self._cache, self._cache_places = weakref.ref(cache), places
            for layer, keys, values in zip(self._layers, cache.keys, cache.values):
                layer.keys, layer.values = keys.data_ptr(), values.data_ptr()
            shape.cache_type = _TYPES[cache.keys[0].dtype]
        shape.cosines, shape.sines = cosines.data_ptr(), sines.data_ptr()
        if model.generation.has_lambdas:
            for layer, residual, start in zip(self._layers, model.resid_lambdas.tolist(), model.x0_lambdas.tolist()):
                layer.residual, layer.start = residual, start
        if model.generation.has_smear:
            shape.smear, shape.backout = model.smear_lambda.item(), model.backout_lambda.item()

    def _matrix(self, layer: int, path: str) -> Any:
        part, _, name = path.partition(".")
        return getattr(getattr(self._model.transformer.h[layer], part), name)


def decode_step(model: "GPT") -> DecodeStep | None:
    """The step for a model on a CPU; None where there is no compiled code, or for a model with an adapter."""
    if model.is_adapted:
        return None
    compiled = library("decode", layer=_Layer, shape=_Shape, request=_Request) if model.device.type == "cpu" else None
    if compiled:
        compiled.most_tokens.argtypes, compiled.most_tokens.restype = [_count], _count
    return DecodeStep(model, compiled) if compiled else None


def _nothing() -> None:
    return None


def _scales_of(module: Any) -> int | None:
    scales = getattr(module, "scales", None)
    return None if scales is None else scales.data_ptr()
