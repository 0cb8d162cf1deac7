"""How the gradients of a step's micro-batches are added up, on a rank and over all ranks.

Rounding depends on the order of a sum. `AnyOrder` adds a rank's micro-batches one after the other in place, and leaves
the sum over the ranks to the library. `FixedOrder` deals the micro-batches out to SLOTS slots, whatever the number of
ranks, and adds the slots in a binary tree: its lower levels on a rank, its upper ones between two ranks. So the bits
are the same for any number of ranks up to SLOTS; it takes some more passes over the gradients, and memory for one of
each level.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.tokens.plan import shares
from nanochat_core.memory.counts import SLOTS
from nanochat_core.tokenizer.rendering import Example

_SEEDS = (0, 7, 3, 4, 1, 6, 2, 5)
"""Which of the slots, the one with the most tokens first, stands where: so every level of the tree is balanced."""

Gradients = dict[str, Tensor]
"""By the parameters' names."""
Compute = Callable[[int], Gradients]
"""From the number of a group to the gradients of its micro-batches, in memory of their own."""
Total = Callable[[], Gradients | None]
"""Ends a sum over all ranks: its gradients on the one that they are for, None on the others."""
Release = Callable[[Gradients], None]


class Sums(Protocol):
    """The sum over a step's micro-batches, of this rank's point of view."""

    groups: list[list[int]]
    """This rank's micro-batches; those of a group are added one after the other in place."""
    is_one_part: bool
    """Whether the last group is what `here` gives: `across` may then begin with those of its names that are whole."""

    def here(self, compute: Compute, release: Release) -> list[Gradients]:
        """What this rank can add up alone. release: takes gradients that are not needed any more."""

    def across(self, parts: list[Gradients], like: Mapping[str, Tensor], owner: int) -> Total:
        """Begin the sum over all ranks, on `owner`, in memory of its own or of its parts; the parts stay until its end.

        parts: what `here` gave, or some names of it. like: tensors of these names and shapes.
        """


class AnyOrder:
    """All of a rank's micro-batches are one group."""

    is_one_part = True

    def __init__(self, batches: Sequence[Sequence[Example]], ranks: Ranks):
        self.groups = [shares(batches, ranks.world)[ranks.rank]]
        self._ranks = ranks

    def here(self, compute: Compute, release: Release) -> list[Gradients]:
        """The gradients of the group."""
        return [compute(0)]

    def across(self, parts: list[Gradients], like: Mapping[str, Tensor], owner: int) -> Total:
        """Begin the sum over all ranks, on `owner`: the library adds while this rank computes."""
        end = self._ranks.start_sum(parts[0].values(), owner)

        def total() -> Gradients | None:
            end()
            return parts[0] if self._ranks.rank == owner else None

        return total


@dataclass(frozen=True)
class _Node:
    """Some slots side by side in the tree."""

    start: int
    end: int

    @property
    def halves(self) -> tuple["_Node", "_Node"]:
        middle = (self.start + self.end) // 2
        return _Node(self.start, middle), _Node(middle, self.end)


_ALL = _Node(0, SLOTS)


class FixedOrder:
    """Each slot is a group. A rank has some slots side by side."""

    is_one_part = False

    def __init__(self, batches: Sequence[Sequence[Example]], ranks: Ranks):
        """ValueError for more ranks than slots."""
        if ranks.world > SLOTS:
            raise ValueError(f"fixed_sums is for at most {SLOTS} processes, not {ranks.world}: start fewer of them.")
        self._ranks = ranks
        by_size = shares(batches, SLOTS)
        by_size.sort(key=lambda numbers: -sum(example.inputs for number in numbers for example in batches[number]))
        self._slots = [by_size[seed] for seed in _SEEDS]
        self._mine = [slot for slot in range(SLOTS) if self._rank_of(slot) == ranks.rank and self._slots[slot]]
        self.groups = [self._slots[slot] for slot in self._mine]
        self._nodes = [node for node in self._whole(_ALL) if self._holder(node) == ranks.rank]

    def here(self, compute: Compute, release: Release) -> list[Gradients]:
        """The sum of every node of the tree whose slots are all this rank's, but no larger node's are."""
        return [self._added(node, compute, release) for node in self._nodes]

    def across(self, parts: list[Gradients], like: Mapping[str, Tensor], owner: int) -> Total:
        """The sum over all ranks, on `owner`; all of it happens at the end, when every rank has its part."""
        return partial(self._across, parts, like, owner)

    def _across(self, parts: list[Gradients], like: Mapping[str, Tensor], owner: int) -> Gradients | None:
        held, rank = dict(zip(self._nodes, parts)), self._ranks.rank
        holder = self._merge(_ALL, held, owner)
        total = held.get(_ALL)
        if holder != owner and rank in (holder, owner):
            total = total or {name: torch.empty_like(tensor) for name, tensor in like.items()}
            self._ranks.pass_on(list(total.values()), holder, owner)
        return total if rank == owner else None

    def _rank_of(self, slot: int) -> int:
        return slot * self._ranks.world // SLOTS

    def _holder(self, node: _Node) -> int | None:
        """The rank of all the node's slots that are not empty; None when they are several ranks', or all empty."""
        ranks = {self._rank_of(slot) for slot in range(node.start, node.end) if self._slots[slot]}
        return ranks.pop() if len(ranks) == 1 else None

    def _whole(self, node: _Node) -> list[_Node]:
        """The largest nodes below this one that one rank holds."""
        if not any(self._slots[node.start : node.end]):
            return []
        if self._holder(node) is not None:
            return [node]
        return [whole for half in node.halves for whole in self._whole(half)]

    def _added(self, node: _Node, compute: Compute, release: Release) -> Gradients:
        if node.end - node.start == 1:
            return compute(self._mine.index(node.start))
        halves = [half for half in node.halves if any(self._slots[half.start : half.end])]
        total = self._added(halves[0], compute, release)
        for half in halves[1:]:
            other = self._added(half, compute, release)
            for name, tensor in total.items():
                tensor.add_(other[name])
            release(other)
        return total

    def _merge(self, node: _Node, held: dict[_Node, Gradients], owner: int) -> int | None:
        """Add up what is below `node`; returns the rank that has it then, and notes it in `held` there."""
        if not any(self._slots[node.start : node.end]):
            return None
        if (holder := self._holder(node)) is not None:
            return holder
        left, right = node.halves
        a, b = self._merge(left, held, owner), self._merge(right, held, owner)
        if a is None or b is None:
            there, half = (b, right) if a is None else (a, left)
            if there == self._ranks.rank:
                held[node] = held[half]
            assert there is not None
            return there
        # A sum of two does not depend on which is first, so it is made where it comes nearer to the owner.
        to_right = any(self._rank_of(slot) == owner for slot in range(right.start, right.end)) and a != owner
        (source, given), (target, kept) = ((a, left), (b, right)) if to_right else ((b, right), (a, left))
        if target == self._ranks.rank:
            if source == target:
                others = list(held[given].values())
            else:
                others = [torch.empty_like(tensor) for tensor in held[kept].values()]
                self._ranks.pass_on(others, source, target)
            for tensor, other in zip(held[kept].values(), others):
                tensor.add_(other)
            held[node] = held[kept]
        elif source == self._ranks.rank:
            self._ranks.pass_on(list(held[given].values()), source, target)
        return target
