"""What a training computes in: what a block keeps for its gradient, and what is there for a moment only."""

from collections import Counter

from nanochat_core.memory.counts import FP32, HALF, Parameters, Training, matrices
from nanochat_core.model.shape import GPTConfig

_LOGITS_PER_CHUNK, _LOGITS_PER_CHUNK_OF_CPU = 1 << 25, 1 << 22
_ROWS_PER_CHUNK = 192
"""CHUNK_ELEMENTS_GPU, CHUNK_ELEMENTS and CHUNK_ROWS of model/loss.py."""
_STACKED = 1 << 25
"""STACKED_ELEMENTS of training/muon.py."""
_ADAM_TO_MUON = 0.6
"""Of training/modes/store.py: numbers of a table that are stepped at once, to those of a block."""


def saved_by_block(training: Training) -> int:
    """What one block keeps of a micro-batch for its gradient.

    In channels of the model for each token: the stream twice and its norm twice, attention's output, mixed heads, and
    relu and its square, four times as wide; of q, before and after its norm, and of k the same, and of v. Of padding,
    what attention gets and gives.
    """
    shape, tokens = training.shape, training.micro_batch_tokens
    kv = shape.n_kv_head * shape.head_dim
    kept = (6 + 8 + 2) * shape.n_embd + 3 * kv
    statistics = FP32 * (2 + 2 * shape.n_head + shape.n_kv_head)
    if training.generation.has_lambdas:
        kept += 2 * shape.n_embd
    if training.generation.value_gate_width:
        kept += kv
    padded = training.padding * (training.itemsize * 2 * (shape.n_embd + kv) + FP32 * shape.n_head)
    return tokens * (training.itemsize * kept + statistics) + padded


def passing_head(training: Training) -> int:
    """A chunk of logits: the sigmoid and the gradient in fp32; later the gradient's cast, and what the head gets."""
    shape = training.shape
    most = _LOGITS_PER_CHUNK_OF_CPU if training.on_cpu else _LOGITS_PER_CHUNK
    rows = min(max(_ROWS_PER_CHUNK, most // shape.vocab_size), training.micro_batch_tokens)
    logits = rows * shape.vocab_size
    if training.itemsize == FP32:
        return 2 * FP32 * logits
    head = 0 if training.is_adapted else HALF * shape.vocab_size * shape.n_embd
    return max(2 * FP32 * logits, HALF * logits + head)


def passing_back(training: Training) -> int:
    """Of a block's way back: gradients of the MLP's inner stream and of the stream, and one of a matrix."""
    shape = training.shape
    return training.itemsize * (6 * training.micro_batch_tokens * shape.n_embd + 4 * shape.n_embd**2)


def adam_piece(count: Parameters) -> int:
    """Numbers of a table that the layer-wise modes step at once."""
    return min(count.head, int(_ADAM_TO_MUON * count.block))


def muon_work(shape: GPTConfig) -> int:
    """What Muon keeps to compute in: it changes the matrices of one shape of a block together (training/muon.py)."""
    stacked = square = direction = 0
    for (rows, columns), number in Counter(matrices(shape, shape.n_layer - 1)).items():
        count = min(number, max(1, _STACKED // (rows * columns)))
        stacked = max(stacked, count * rows * columns)
        square = max(square, count * min(rows, columns) ** 2)
        direction = max(direction, rows * columns)
    return HALF * (2 * stacked + 4 * square) + FP32 * direction
