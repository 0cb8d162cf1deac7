"""What is trained, and how many numbers that is: by what the optimizers do with them."""

from dataclasses import dataclass

from nanochat_core.model.shape import GENERATIONS, Generation, GPTConfig

FP32, HALF = 4, 2
"""Bytes of a number."""
SLOTS = 8
"""To which a step's micro-batches are dealt out where gradients are added in one order (training/modes/sums.py)."""


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
    """A CPU computes fewer logits at once."""
    padding: int = 0
    """Places without a token in the largest forward pass: in a GPU's attention all conversations are as long as the
    longest."""
    sums: int = 1
    """Sets of gradients that are held at a time: with fixed_sums one for each level of the tree that adds them up."""
    adapter: int = 0
    """Numbers of a LoRA adapter that is trained instead of the weights; 0 trains these."""

    @property
    def itemsize(self) -> int:
        """Bytes of a number of the computation."""
        return HALF if self.dtype == "bfloat16" else FP32

    @property
    def generation(self) -> Generation:
        return GENERATIONS[self.shape.generation]

    @property
    def is_adapted(self) -> bool:
        """The weights are frozen, and held in the precision of the computation."""
        return self.adapter > 0


@dataclass(frozen=True)
class Parameters:
    """How many numbers a model has."""

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

    @classmethod
    def of_adapter(cls, numbers: int) -> "Parameters":
        """A LoRA adapter, which AdamW trains."""
        return cls(0, 0, 0, 0, 0, numbers)


def count_parameters(shape: GPTConfig) -> Parameters:
    """The parameters of a model of this shape."""
    generation, layers = GENERATIONS[shape.generation], range(shape.n_layer)
    blocks = [sum(rows * columns for rows, columns in matrices(shape, layer)) for layer in layers]
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


def matrices(shape: GPTConfig, layer: int) -> list[tuple[int, int]]:
    """Rows and columns of each matrix of a block."""
    width, kv = shape.n_embd, shape.n_kv_head * shape.head_dim
    found = [(width, width), (kv, width), (kv, width), (width, width), (4 * width, width), (width, 4 * width)]
    if shape.has_value_embedding(layer):
        found.append((shape.n_kv_head, GENERATIONS[shape.generation].value_gate_width))
    return found


_NAMES = ("attn.c_q", "attn.c_k", "attn.c_v", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""In the order of `matrices`."""


def adapter_numbers(shape: GPTConfig, modules: tuple[str, ...], rank: int) -> int:
    """How many numbers LoRA adds at these matrices of every block: rank for each of their rows and columns."""
    one_block = dict(zip(_NAMES, matrices(shape, 0), strict=False))
    return shape.n_layer * sum(rank * sum(one_block[name]) for name in modules)
