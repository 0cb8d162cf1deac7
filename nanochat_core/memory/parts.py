"""The bytes of a training by what they are for, in each memory mode, on one device and in host memory.

Every figure is counted from the shape; that the training's own tensors come to them is held by a test that follows a
whole step on meta tensors. One figure is an assumption that no count of tensors can give: FIXED.
"""

from collections import Counter
from dataclasses import dataclass, field

from nanochat_core.config import MEMORY_MODES
from nanochat_core.model.shape import GENERATIONS, GPTConfig

MODES = MEMORY_MODES

GIB = 1 << 30
FIXED = int(0.8 * GIB)
"""What a CUDA process takes besides its tensors: the driver's context and the workspaces of the libraries. Assumed."""

FP32, HALF = 4, 2
_LOGITS_PER_CHUNK, _LOGITS_PER_CHUNK_OF_CPU = 1 << 26, 1 << 22
_ROWS_PER_CHUNK = 192
"""CHUNK_ELEMENTS_GPU and CHUNK_ROWS of model/loss.py."""
_STACKED = 1 << 25
"""STACKED_ELEMENTS of training/muon.py."""


@dataclass(frozen=True)
class Training:
    """What decides how much memory a training takes on one device."""

    shape: GPTConfig
    micro_batch_tokens: int
    """Tokens of the largest forward pass."""
    step_tokens: int
    """Tokens of the largest optimizer step on this device, over its micro-batches."""
    dtype: str = "bfloat16"
    """Of the computation."""
    world: int = 1
    """Devices that share out the optimizer's state."""
    on_cpu: bool = False
    """A CPU computes fewer logits at once, and one matrix after the other."""

    @property
    def itemsize(self) -> int:
        """Bytes of a number of the computation."""
        return HALF if self.dtype == "bfloat16" else FP32


@dataclass(frozen=True)
class Need:
    """Bytes by part, on one device and in the host's memory."""

    memory: str
    card: dict[str, int]
    host: dict[str, int] = field(default_factory=dict)

    @property
    def card_bytes(self) -> int:
        return sum(self.card.values())

    @property
    def host_bytes(self) -> int:
        return sum(self.host.values())


@dataclass(frozen=True)
class Parameters:
    """How many numbers a model has, by what the optimizers do with them."""

    block: int
    """Matrices of the largest block."""
    matrices: int
    """Of all blocks: Muon's."""
    head: int
    tables: int
    """The embedding, and the value embeddings of later generations."""
    largest_table: int
    scalars: int

    @property
    def adam(self) -> int:
        """Those of AdamW."""
        return self.head + self.tables + self.scalars

    @property
    def total(self) -> int:
        return self.matrices + self.adam


def count_parameters(shape: GPTConfig) -> Parameters:
    """The parameters of a model of this shape."""
    generation, layers = GENERATIONS[shape.generation], range(shape.n_layer)
    blocks = [sum(rows * columns for rows, columns in _matrices(shape, layer)) for layer in layers]
    embedding = shape.vocab_rows * shape.n_embd
    value_table = shape.vocab_rows * shape.n_kv_head * shape.head_dim
    value_tables = sum(shape.has_value_embedding(layer) for layer in layers)
    scalars = 2 * shape.n_layer if generation.has_lambdas else 0
    scalars += 24 + 2 if generation.has_smear else 0
    return Parameters(
        block=max(blocks),
        matrices=sum(blocks),
        head=embedding,
        tables=embedding + value_tables * value_table,
        largest_table=max(embedding, value_table if value_tables else 0),
        scalars=scalars,
    )


def needs(training: Training) -> list[Need]:
    """What each mode needs, in the order of MODES."""
    return [_MODES[memory](training) for memory in MODES]


def _plain(training: Training) -> Need:
    count = count_parameters(training.shape)
    saved = training.shape.n_layer * _block_activations(training)
    return Need("plain", _all_on_card(training, count, {"activations": saved + _ends(training)}))


def _checkpointed(training: Training) -> Need:
    count = count_parameters(training.shape)
    saved = (training.shape.n_layer + 1) * _stream(training, training.micro_batch_tokens)
    card = _all_on_card(training, count, {"activations": saved + _block_activations(training) + _ends(training)})
    return Need("checkpointed", card)


def _layerwise(training: Training) -> Need:
    count = count_parameters(training.shape)
    state = -(-(FP32 * count.matrices + 2 * FP32 * count.adam) // training.world)
    low = (FP32 - training.itemsize) * count.total
    card = {
        "weights": training.itemsize * count.total + -(-low // training.world),
        "gradients": _gradients_of_one(count),
        "optimizer": state,
        "activations": _boundaries(training) + _block_activations(training) + _ends(training),
        "logits": _passing(training),
        "staging": _muon_work(training.shape, 1),
        "fixed": FIXED,
    }
    return Need("layerwise", card)


def _offloaded(training: Training, memory: str = "offloaded") -> Need:
    count = count_parameters(training.shape)
    low = (FP32 - training.itemsize) * count.total
    state = FP32 * count.matrices + 2 * FP32 * count.adam
    moved = (FP32 - training.itemsize + FP32) * count.block
    card = {
        "weights": training.itemsize * count.total,
        "gradients": _gradients_of_one(count),
        "activations": _boundaries(training) + _block_activations(training) + _ends(training),
        "logits": _passing(training),
        "staging": 2 * moved + _muon_work(training.shape, 1),
        "fixed": FIXED,
    }
    return Need(memory, card, {"weights": -(-low // training.world), "optimizer": -(-state // training.world)})


def _offloaded_all(training: Training) -> Need:
    need = _offloaded(training, "offloaded_all")
    boundaries = _boundaries(training)
    here = 3 * _stream(training, training.step_tokens)
    card = {**need.card, "activations": need.card["activations"] - boundaries + min(here, boundaries)}
    return Need("offloaded_all", card, {**need.host, "activations": boundaries})


_MODES = {
    "plain": _plain,
    "checkpointed": _checkpointed,
    "layerwise": _layerwise,
    "offloaded": _offloaded,
    "offloaded_all": _offloaded_all,
}


def _all_on_card(training: Training, count: Parameters, activations: dict[str, int]) -> dict[str, int]:
    """Parts of the modes that hold all weights, gradients and states where they compute."""
    state = FP32 * count.matrices + 2 * FP32 * count.adam
    casts = HALF * (count.matrices + count.head) if training.itemsize == HALF else 0
    return {
        "weights": FP32 * count.total,
        "gradients": FP32 * count.total,
        "optimizer": -(-state // training.world),
        **activations,
        "logits": _passing(training),
        "staging": _muon_work(training.shape, training.shape.n_layer),
        "casts": casts,
        "fixed": FIXED,
    }


def _gradients_of_one(count: Parameters) -> int:
    """Of one block, and of one table."""
    return FP32 * (count.block + max(count.head, count.largest_table))


def _boundaries(training: Training) -> int:
    """The inputs of all blocks and the gradient of the last output, for all tokens of a step."""
    return (training.shape.n_layer + 1) * _stream(training, training.step_tokens)


def _stream(training: Training, tokens: int) -> int:
    return tokens * training.shape.n_embd * training.itemsize


def _block_activations(training: Training) -> int:
    """What one block keeps of a micro-batch for its gradient.

    In channels of the model for each token: the stream twice and its norm twice, mixed heads, attention's output, and
    relu and its square, four times as wide; of q, before and after its norm, and of k the same, and of v.
    """
    shape, tokens = training.shape, training.micro_batch_tokens
    kv = shape.n_kv_head * shape.head_dim
    kept = (6 + 8 + 2) * shape.n_embd + 3 * kv
    statistics = FP32 * (2 + 2 * shape.n_head + shape.n_kv_head)
    extra = 0
    generation = GENERATIONS[shape.generation]
    if generation.has_lambdas:
        extra += 2 * shape.n_embd
    if generation.value_gate_width:
        extra += kv
    return tokens * (training.itemsize * (kept + extra) + statistics)


def _ends(training: Training) -> int:
    """What lies before the first block and after the last: the embedded tokens, the normed ones, their gradient."""
    return 3 * _stream(training, training.micro_batch_tokens)


def _passing(training: Training) -> int:
    """The most that is needed besides for a moment: a chunk of logits with its gradient, or a block's way back."""
    shape, itemsize = training.shape, training.itemsize
    most = _LOGITS_PER_CHUNK_OF_CPU if training.on_cpu else _LOGITS_PER_CHUNK
    rows = min(max(_ROWS_PER_CHUNK, most // shape.vocab_size), training.micro_batch_tokens)
    logits, head = rows * shape.vocab_size, shape.vocab_size * shape.n_embd
    # The sigmoid and the gradient of a chunk, and its cast; then what that adds to the head's gradient.
    chunk = max(10 * logits, 6 * logits + HALF * head) if itemsize == HALF else 8 * logits
    back = itemsize * (6 * training.micro_batch_tokens * shape.n_embd + 4 * shape.n_embd**2)
    return max(chunk, back)


def _matrices(shape: GPTConfig, layer: int) -> list[tuple[int, int]]:
    """Rows and columns of each matrix of a block."""
    width, kv = shape.n_embd, shape.n_kv_head * shape.head_dim
    found = [(width, width), (kv, width), (kv, width), (width, width), (4 * width, width), (width, 4 * width)]
    if shape.has_value_embedding(layer):
        found.append((shape.n_kv_head, GENERATIONS[shape.generation].value_gate_width))
    return found


def _muon_work(shape: GPTConfig, layers: int) -> int:
    """What Muon keeps to compute in when it changes the matrices of so many blocks together (training/muon.py)."""
    stacked = square = direction = 0
    for (rows, columns), number in Counter(_matrices(shape, shape.n_layer - 1)).items():
        count = min(number * layers, max(1, _STACKED // (rows * columns)))
        stacked = max(stacked, count * rows * columns)
        square = max(square, count * min(rows, columns) ** 2)
        direction = max(direction, rows * columns)
    return HALF * (2 * stacked + 4 * square) + FP32 * direction
