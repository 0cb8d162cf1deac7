"""From conversations to packed batches: what each optimizer step trains on, the same for any number of processes.

A step takes `target_examples_per_step` conversations in an order that the seed fixes; each epoch shuffles
again and sees every conversation once. A step's conversations are dealt out to micro-batches of at most
`device_batch_size`, laid end to end without padding, and these to the ranks. The order, the number of
supervised tokens of a step and so the loss's weighting are known to every rank without communication.
"""

import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from nanochat_core.data.tokens.file import TokenFile
from nanochat_core.tokenizer.rendering import Example, Rejected, Rendering
from nanochat_core.tokenizer.tokenizer import Tokenizer

NONE_REJECTED: Mapping[int, tuple[Rejected, ...]] = {}


class Examples(Sequence[Example]):
    """The conversations of a token file that have something to learn; each is made when it is asked for."""

    def __init__(
        self,
        tokens: TokenFile,
        tokenizer: Tokenizer,
        rows: np.ndarray | None = None,
        rejected: Mapping[int, tuple[Rejected, ...]] = NONE_REJECTED,
    ):
        """rows: which conversations of the file, without it all that have something to learn. rejected: by row."""
        self._tokens, self._tokenizer, self._mask = tokens, tokenizer, Rendering(tokenizer).mask
        self._rows = np.flatnonzero(tokens.facts["supervised"]) if rows is None else rows
        self.rejected = rejected

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> Example: ...
    @overload
    def __getitem__(self, number: slice) -> "Examples": ...
    def __getitem__(self, number: int | slice) -> "Example | Examples":
        if isinstance(number, slice):
            return self._of(self._rows[number])
        row = int(self._rows[number])
        ids = self._tokens.ids(row)
        mask = self._mask(ids)
        for start, end in self._tokens.untrained_of(row):
            mask[start:end] = False
        return Example(ids, mask, row, bool(self._tokens.facts["cut"][row]), rejected=self.rejected.get(row, ()))

    def picked(self, places: np.ndarray) -> "Examples":
        """The examples at these places, in this order."""
        return self._of(self._rows[places])

    def with_rejected(self, rejected: Mapping[int, tuple[Rejected, ...]]) -> "Examples":
        """The same with answers to learn not to give, by Example.index."""
        return Examples(self._tokens, self._tokenizer, self._rows, rejected)

    def only_with_rejected(self) -> "Examples":
        """Those that have rejected answers, in order."""
        return self._of(np.array([row for row in self._rows.tolist() if row in self.rejected], np.int64))

    def _of(self, rows: np.ndarray) -> "Examples":
        return Examples(self._tokens, self._tokenizer, rows, self.rejected)

    @property
    def rows(self) -> np.ndarray:
        """Example.index of each, int64 (N,)."""
        return self._rows

    @property
    def inputs(self) -> np.ndarray:
        """Example.inputs of each, int64 (N,)."""
        inputs = self._tokens.facts["tokens"][self._rows].astype(np.int64) - 1
        if self.rejected:
            more = [sum(len(one.ids) - 1 for one in self.rejected.get(row, ())) for row in self._rows.tolist()]
            inputs += np.array(more, np.int64)
        return inputs

    @property
    def supervised(self) -> np.ndarray:
        """Example.supervised of each, int64 (N,)."""
        return self._tokens.facts["supervised"][self._rows].astype(np.int64)


@overload
def split(examples: Examples, val_split: float, how: str = "spread", seed: int = 42) -> tuple[Examples, Examples]: ...
@overload
def split(
    examples: Sequence[Example], val_split: float, how: str = "spread", seed: int = 42
) -> tuple[Sequence[Example], Sequence[Example]]: ...
def split(
    examples: Sequence[Example], val_split: float, how: str = "spread", seed: int = 42
) -> tuple[Sequence[Example], Sequence[Example]]:
    """(training, validation): `val_split` of the examples, at least one, validate. See `validation_places`.

    ValueError when there are not two examples.
    """
    if len(examples) < 2:
        raise ValueError(
            f"There {'is 1 conversation' if len(examples) == 1 else 'are no conversations'} to learn from, and "
            "training needs at least 2: one to train on and one to validate with. Add conversations to the file."
        )
    validates = np.zeros(len(examples), dtype=bool)
    validates[validation_places(len(examples), val_split, how, seed)] = True
    return _picked(examples, np.flatnonzero(~validates)), _picked(examples, np.flatnonzero(validates))


def validation_places(count: int, val_split: float, how: str = "spread", seed: int = 42) -> np.ndarray:
    """Which of `count` examples validate, ascending, int64: the one rule, also for the counts that the app shows.

    spread: the file is cut into as many even stretches as examples are needed, and the seed draws one of each. So a
    file whose end is of another kind than its beginning is validated with both. tail: the last ones.
    """
    size = min(max(1, round(count * val_split)), count - 1) if count > 1 else 0
    if how == "tail":
        return np.arange(count - size, count)
    draw = random.Random(f"{seed}:validation")
    return np.array([draw.randrange(n * count // size, (n + 1) * count // size) for n in range(size)], np.int64)


def _picked(examples: Sequence[Example], places: np.ndarray) -> Sequence[Example]:
    return examples.picked(places) if isinstance(examples, Examples) else [examples[place] for place in places.tolist()]


@dataclass(frozen=True)
class Plan:
    """Which training examples each step takes, for all ranks alike."""

    examples: Sequence[Example]
    replay: Sequence[Example]
    """General conversations to mix in."""
    replay_ratio: float
    """Replayed examples for each of one's own, in every epoch."""
    examples_per_step: int
    seed: int

    @property
    def replayed_per_epoch(self) -> int:
        return round(len(self.examples) * self.replay_ratio) if self.replay else 0

    @property
    def examples_per_epoch(self) -> int:
        return len(self.examples) + self.replayed_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """The last step of an epoch takes what is left, so no conversation waits for the next epoch."""
        return -(-self.examples_per_epoch // self.examples_per_step)

    def steps_from(self, step: int) -> Iterator[list[Example]]:
        """The examples of the `step`-th optimizer step (from 0), of the next, and so on without end."""
        epoch, within = divmod(step, self.steps_per_epoch)
        while True:
            order = self.epoch(epoch)
            for start in range(within * self.examples_per_step, len(order), self.examples_per_step):
                yield order[start : start + self.examples_per_step]
            epoch, within = epoch + 1, 0

    def epoch(self, epoch: int) -> "Epoch":
        """All examples of an epoch in their order, from the seed and the epoch's number alone."""
        replayed = np.fromiter(self._replay_indices(epoch), np.int64)
        order = array("q", range(len(self.examples) + len(replayed)))
        # Python's shuffle is documented to stay the same for a seed; torch's and NumPy's may change.
        random.Random(f"{self.seed}:{epoch}").shuffle(order)
        return Epoch(self.examples, self.replay, replayed, np.array(order))

    def _replay_indices(self, epoch: int) -> Iterator[int]:
        """Walk through a fixed shuffle of the replay set, going on in the next epoch where this one ends."""
        order = list(range(len(self.replay)))
        random.Random(f"{self.seed}:replay").shuffle(order)
        start = epoch * self.replayed_per_epoch
        return (order[i % len(order)] for i in range(start, start + self.replayed_per_epoch))


@dataclass(frozen=True, eq=False)
class Epoch(Sequence[Example]):
    """The examples of an epoch in their order; each is made when it is asked for."""

    own: Sequence[Example]
    replay: Sequence[Example]
    replayed: np.ndarray
    """Which of the replay set follow after `own`."""
    order: np.ndarray
    """A permutation of both."""

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, number: int) -> Example: ...
    @overload
    def __getitem__(self, number: slice) -> list[Example]: ...
    def __getitem__(self, number: int | slice) -> Example | list[Example]:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        which = int(self.order[number])
        if which < len(self.own):
            return self.own[which]
        return replace(self.replay[int(self.replayed[which - len(self.own)])], is_replay=True)

    def inputs(self) -> np.ndarray:
        """Example.inputs of each, in order."""
        return self._numbers("inputs")

    def supervised(self) -> np.ndarray:
        """Example.supervised of each, in order."""
        return self._numbers("supervised")

    def _numbers(self, name: str) -> np.ndarray:
        own, replay = (_numbers(examples, name) for examples in (self.own, self.replay))
        return np.concatenate([own, replay[self.replayed]])[self.order]


def _numbers(examples: Sequence[Example], name: str) -> np.ndarray:
    if isinstance(examples, Examples):
        return getattr(examples, name)
    return np.array([getattr(example, name) for example in examples], np.int64)


def micro_batches(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """The micro-batches of a step, of at most `size` examples of like length, the longest first.

    The same for any number of ranks, so that a gradient is rounded alike wherever it is computed.
    """
    by_length = sorted(examples, key=lambda example: (-example.inputs, example.index))
    return [by_length[start : start + size] for start in range(0, len(by_length), size)]


def shares(batches: Sequence[Sequence[Example]], ranks: int) -> list[list[int]]:
    """Which of the micro-batches each of `ranks` computes, in order; about the same number of tokens each.

    A rank beyond the number of micro-batches has none.
    """
    tokens = [0] * ranks
    found: list[list[int]] = [[] for _ in range(ranks)]
    sizes = [sum(example.inputs for example in batch) for batch in batches]
    for number in sorted(range(len(batches)), key=lambda number: (-sizes[number], number)):
        rank = min(range(ranks), key=lambda rank: (tokens[rank], rank))
        tokens[rank] += sizes[number]
        found[rank].append(number)
    return [sorted(numbers) for numbers in found]
