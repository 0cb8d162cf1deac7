"""The parts of a model whose gradients are complete at the same time on the way back, and which rank keeps each.

First the head, then the blocks from the last to the first, each with the table of its value embeddings, and at last
what all blocks have a share in: the embedding and the scalars.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nanochat_core.model.gpt import GPT


@dataclass(frozen=True)
class Unit:
    """Parameters whose gradients are complete at the same time."""

    names: tuple[str, ...]
    size: int
    """Numbers in all of them."""
    layer: int | None = None
    """The block; None for the head and for the rest."""
    is_head: bool = False

    def is_above(self, layer: int | None) -> bool:
        """Whether its gradients are complete with those of block `layer`; None: with the head's."""
        if layer is None or self.layer is None:
            return self.is_head
        return self.layer >= layer


def units_of(model: GPT) -> list[Unit]:
    """The units of what is trained of a model, in the order in which the gradients are complete. Some may be empty."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters() if parameter.requires_grad}

    def unit(names: list[str], layer: int | None = None, *, is_head: bool = False) -> Unit:
        return Unit(tuple(names), sum(sizes.pop(name) for name in names), layer, is_head)

    head = unit([name for name in sizes if name == "lm_head.weight"], is_head=True)
    blocks = []
    for layer in reversed(range(model.config.n_layer)):
        own = (f"transformer.h.{layer}.", f"value_embeds.{layer}.")
        blocks.append(unit([name for name in sizes if name.startswith(own)], layer))
    return [head, *blocks, unit(list(sizes))]


def owners_of(units: Sequence[Unit], ranks: int) -> dict[str, int]:
    """For each parameter the rank that keeps its optimizer state; whole units, about the same size for each."""
    held = [0] * ranks
    found = {}
    for unit in sorted(units, key=lambda unit: -unit.size):
        rank = min(range(ranks), key=lambda rank: held[rank])
        held[rank] += unit.size
        found.update(dict.fromkeys(unit.names, rank))
    return found
