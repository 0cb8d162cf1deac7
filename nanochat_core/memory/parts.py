"""The bytes of a training by what they are for, in each memory mode, on one device and in host memory.

Every figure is counted from the shape; that the training's own tensors come to them is held by a test that follows
whole steps on meta tensors. What no count of tensors can give is assumed, or measured: FIXED and FIXED_CPU.
"""

from dataclasses import dataclass, field, replace

from nanochat_core.config import MEMORY_MODES
from nanochat_core.memory.counts import FP32, HALF, Parameters, Training, count_parameters
from nanochat_core.memory.work import adam_piece, muon_work, passing_back, passing_head, saved_by_block

GIB = 1 << 30
FIXED = int(0.8 * GIB)
"""What a CUDA process takes besides its tensors: the driver's context and the workspaces of the libraries. Assumed."""
FIXED_CPU = int(0.3 * GIB)
"""The same of a process on a CPU, beyond torch itself: work space of the libraries, holes in the heap. Measured at d12:
0.24 to 0.38 GiB in the five modes (benchmarks/README.md)."""

_TIES = 8
"""A sixteenth of a weight's low half says which of them are ties: a byte for eight weights."""

Part = dict[str, int]
"""Bytes by part: weights, gradients, optimizer, activations, logits, staging, casts, fixed."""


@dataclass(frozen=True)
class Need:
    """Bytes by part, on one device and in the host's memory."""

    memory: str
    card: Part
    """At the moment when they are most."""
    host: Part = field(default_factory=dict)
    saving: int = 0
    """Of the host's memory beside that, while a checkpoint is saved: what is on the card passes through it."""

    @property
    def card_bytes(self) -> int:
        return sum(self.card.values())

    @property
    def host_bytes(self) -> int:
        return sum(self.host.values())


def needs(training: Training) -> list[Need]:
    """What each mode needs, in the order of MEMORY_MODES."""
    found = [_MODES[memory](training) for memory in MEMORY_MODES]
    return [replace(need, saving=_saving(training, need)) for need in found]


def _saving(training: Training, need: Need) -> int:
    """The largest tensor, one at a time: in fp32, and rounded to bf16; before that, halves that are on the card."""
    count, trained = _trained(training)
    if training.is_adapted:
        return FP32 * trained.total  # as a whole: it is small
    is_here = need.memory == "layerwise" and _low(training, trained) > 0
    largest = max(count.head, count.largest_table)
    return int(largest * (FP32 + HALF + (HALF + 1 / _TIES if is_here else 0)))


def _plain(training: Training) -> Need:
    count = count_parameters(training.shape)
    saved = training.shape.n_layer * saved_by_block(training) + _ends(training)
    casts = 0 if training.is_adapted else _casts(training, count.matrices + count.head)
    phases = [
        {"activations": saved, "logits": max(passing_head(training), passing_back(training)), "casts": casts},
        {"activations": _ends(training), "logits": _table_gradient(training, count.largest_table), "casts": casts},
    ]
    return Need("plain", _most(_whole(training, count), phases))


def _checkpointed(training: Training) -> Need:
    count = count_parameters(training.shape)
    borders, block = _borders(training, training.micro_batch_tokens), saved_by_block(training)
    head, matrices = (0, 0) if training.is_adapted else (count.head, count.block)
    phases = [
        {"activations": borders, "logits": passing_head(training), "casts": _casts(training, head)},
        {"activations": borders + block, "logits": passing_back(training), "casts": _casts(training, matrices)},
        {"activations": _ends(training), "logits": _table_gradient(training, count.largest_table), "casts": 0},
    ]
    return Need("checkpointed", _most(_whole(training, count), phases))


def _layerwise(training: Training) -> Need:
    count, trained = _trained(training)
    resident = _by_layers(training, count, trained)
    resident["weights"] += _share(training, _low(training, trained))
    resident["optimizer"] = _share(training, _state(trained))
    return Need("layerwise", _most(resident, _phases(training, count, _borders(training, training.step_tokens))))


def _offloaded(training: Training) -> Need:
    count, trained = _trained(training)
    phases = _phases(training, count, _borders(training, training.step_tokens))
    return Need("offloaded", _most(_staged(training, count, trained), phases), _host(training, trained))


def _offloaded_all(training: Training) -> Need:
    """Of a border, the block's that is computed and the next one are on the device; the gradients all are."""
    count, trained = _trained(training)
    here = 2 * _stream(training, training.step_tokens) + 2 * _stream(training, training.micro_batch_tokens)
    away = training.shape.n_layer * _stream(training, training.step_tokens)
    host = _host(training, trained) | {"activations": away}
    phases = _phases(training, count, min(here, _borders(training, training.step_tokens)))
    return Need("offloaded_all", _most(_staged(training, count, trained), phases), host)


_MODES = {
    "plain": _plain,
    "checkpointed": _checkpointed,
    "layerwise": _layerwise,
    "offloaded": _offloaded,
    "offloaded_all": _offloaded_all,
}


def _most(resident: Part, phases: list[Part]) -> Part:
    """What is always there, with the phase that needs most."""
    most = max(phases, key=_total)
    return {**resident, **most, "fixed": FIXED}


def _total(part: Part) -> int:
    return sum(part.values())


def _trained(training: Training) -> tuple[Parameters, Parameters]:
    """(all parameters, those that are trained)."""
    count = count_parameters(training.shape)
    return count, Parameters.of_adapter(training.adapter) if training.is_adapted else count


def _whole(training: Training, count: Parameters) -> Part:
    """What the modes hold that have all weights, gradients and states where they compute."""
    trained = _trained(training)[1]
    frozen = training.itemsize * count.total if training.is_adapted else 0
    return {
        "weights": frozen + FP32 * trained.total,
        "gradients": FP32 * trained.total * training.sums,
        "optimizer": _share(training, _state(trained)),
        "staging": 0 if training.is_adapted else muon_work(training.shape),
    }


def _by_layers(training: Training, count: Parameters, trained: Parameters) -> Part:
    """What all layer-wise modes hold: the weights to compute with, gradients of a block and a table, space to step."""
    weights = training.itemsize * count.total
    if training.is_adapted:
        return {
            "weights": weights + FP32 * trained.total,
            "gradients": FP32 * trained.total * training.sums,
            "staging": 0,
        }
    tables = count.head + (count.largest_table if count.largest_table != count.head else 0)
    whole = 0 if training.itemsize == FP32 else FP32 * max(count.block, adam_piece(count))
    gradients = FP32 * (count.block + tables) * training.sums
    return {"weights": weights, "gradients": gradients, "staging": muon_work(training.shape) + whole}


def _staged(training: Training, count: Parameters, trained: Parameters) -> Part:
    """`_by_layers` with two buffers for what comes from the host and goes back."""
    found = _by_layers(training, count, trained)
    low = 0 if training.itemsize == FP32 else HALF + 1 / _TIES
    load = 2 * FP32 * trained.total if training.is_adapted else _larger_load(count, low)
    return found | {"staging": found["staging"] + 2 * int(load)}


def _larger_load(count: Parameters, low: float) -> float:
    """Of a block with Muon's state, or of some rows of a table with AdamW's."""
    return max((low + FP32) * count.block, (low + 2 * FP32) * adam_piece(count))


def _host(training: Training, trained: Parameters) -> Part:
    low = _low(training, trained)
    return {"weights": _share(training, low), "optimizer": _share(training, _state(trained))}


def _phases(training: Training, count: Parameters, borders: int) -> list[Part]:
    """The head; a block with its gradients; a part's step, with all borders below it; the embedding."""
    block, step = saved_by_block(training), 0 if training.is_adapted else 5 * adam_piece(count)
    return [
        {"activations": borders + _stream(training, training.micro_batch_tokens), "logits": passing_head(training)},
        {"activations": borders + block, "logits": passing_back(training)},
        {"activations": borders, "logits": step},
        {"activations": 2 * _stream(training, training.step_tokens), "logits": _table_gradient(training, count.head)},
    ]


def _low(training: Training, trained: Parameters) -> int:
    """Of the trained weights what is missing to fp32, with the bits that tell ties; nothing where all are fp32."""
    is_whole = training.itemsize == FP32 or training.is_adapted
    return 0 if is_whole else HALF * trained.total + trained.total // _TIES


def _state(trained: Parameters) -> int:
    return FP32 * trained.matrices + 2 * FP32 * trained.adam


def _share(training: Training, size: int) -> int:
    """A device's part of what they share out."""
    return -(-size // training.world)


def _casts(training: Training, numbers: int) -> int:
    return HALF * numbers if training.itemsize == HALF else 0


def _table_gradient(training: Training, table: int) -> int:
    """torch makes the gradient of a look-up as a whole table, and adds it then."""
    return 0 if training.is_adapted else FP32 * table


def _borders(training: Training, tokens: int) -> int:
    """What enters each block, and leaves the last, of so many tokens; on the way back the gradient instead of that."""
    has_mixed = training.generation.has_lambdas
    return (training.shape.n_layer + 1 + has_mixed) * _stream(training, tokens)


def _stream(training: Training, tokens: int) -> int:
    return tokens * training.shape.n_embd * training.itemsize


def _ends(training: Training) -> int:
    """What lies before the first block and after the last: the embedded tokens, the normed ones, their gradient."""
    return 3 * _stream(training, training.micro_batch_tokens)
