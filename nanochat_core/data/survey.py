"""One pass over a data file: in this process, or a large file in as many as there are cores, with the same result."""

import contextlib
import os
from array import array
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nanochat_core.data.chunk import Block, BlockReader, LineMarks, Wanted
from nanochat_core.data.ends import shared_ends
from nanochat_core.data.file_kinds import foreign_kind
from nanochat_core.data.line import Messages, array_fault
from nanochat_core.data.reader import head_of, layout, line_blocks, open_data, pieces
from nanochat_core.data.repair.file import refusals
from nanochat_core.data.report import Fault, Problems, Report
from nanochat_core.data.workers import read_in_workers, useful_workers
from nanochat_core.system.words import plural

_SAMPLE = 200

Progress = Callable[[int, int], Any]
"""Called with (bytes done, bytes of the file)."""


def survey(
    path: str | Path,
    wanted: Wanted,
    take: Callable[[Block], Any] = lambda block: None,
    progress: Progress | None = None,
    opened: Callable[[BinaryIO], BinaryIO] = lambda file: file,
) -> Report:
    """Everything that is wrong with the file; `take` gets its blocks in their order.

    opened: what to read the file through. ValueError when the file cannot be opened or a worker was killed.
    """
    tally = _Tally()
    with open_data(path) as raw:
        file, size = opened(raw), os.fstat(raw.fileno()).st_size
        # Closed by name: an exception here must end the workers now, not when its traceback is forgotten.
        with contextlib.closing(_blocks(file, wanted, size, tally)) as blocks:
            for done, block in blocks:
                tally.add(block)
                take(block)
                if progress is not None:
                    progress(min(done, size), size)
    if tally.is_fix_promised:
        tally.try_repair(path)
    return tally.report(str(path))


def _blocks(file: BinaryIO, wanted: Wanted, size: int, tally: "_Tally") -> Generator[tuple[int, Block], None, None]:
    """(bytes of the file until its end, block) of each; what the beginning of the file tells goes to the tally."""
    head, problems = head_of(file), tally.problems
    if fault := foreign_kind(head):
        problems.add(1, fault)
        tally.is_fix_promised = fault.can_fix
        return
    how = layout(head)
    if how.is_array:
        problems.add(1, array_fault())
    elif how.is_spread:
        message = "The conversations are spread over several lines."
        problems.add(1, Fault("error", "spread_over_lines", message, "Write each on one line.", can_fix=True))
    if how.is_spread:  # the file is rejected in any case
        for block in BlockReader(wanted).read_pieces(pieces(file, how), is_spread=True):
            yield file.tell(), block
    elif (workers := useful_workers(size)) and not wanted.keep:
        yield from read_in_workers(line_blocks(file), wanted, workers)
    else:
        reader = BlockReader(wanted)
        for lines in line_blocks(file):
            yield file.tell(), reader.read_lines(lines)


class _Tally:
    """Joins the blocks of a file."""

    def __init__(self) -> None:
        self.problems = Problems()
        self._marks = LineMarks()
        self._lines, self._hashes = array("q"), array("q")
        self._notes: list[str] = []
        self.is_fix_promised = False
        """Whether only the beginning was looked at, and --fix promised."""
        self.has_usable = False
        """Whether --fix would write something."""
        self._marked = 0
        self._sample: list[Messages] = []

    def add(self, block: Block) -> None:
        self._marks.add(block.marks)
        for line, fault in block.problems:
            self.problems.add(line, fault)
            self.has_usable |= fault.can_fix or fault.kind == "not_utf8"  # of which --fix may find the encoding
        self.has_usable |= len(block.lines) > 0
        self._lines.extend(block.lines)
        self._hashes.extend(block.hashes)
        self._notes += [note for note in block.notes if note not in self._notes]
        self._marked += block.marked
        self._sample += block.sample[: max(0, _SAMPLE - len(self._sample))]

    def try_repair(self, path: str | Path) -> None:
        """Of a file of which only the beginning was looked at: whether --fix does what that promises, or why not."""
        with open_data(path) as file:
            reasons = refusals(file, str(path))
        self.has_usable |= not reasons
        for line, fault in reasons:
            self.problems.add(line, fault)

    def report(self, path: str) -> Report:
        for line, fault in self._marks.warnings():
            self.problems.add(line, fault)
        if not self.has_usable:
            self.problems.withdraw_promises()
        if not self._lines and not self.problems.has_errors:
            fix = "Write one conversation on each line; data/README.md shows how."
            self.problems.add(1, Fault("error", "no_conversations", "The file holds no conversation.", fix))
        for line, first in self._repeated():
            message = f"This conversation is the same as the one on line {first}."
            fix = "Remove it unless it should count twice."
            self.problems.add(line, Fault("warning", "repeated_conversation", message, fix))
        for fault in shared_ends(self._sample):
            self.problems.add(1, fault)
        if self._marked:
            self._notes.append(f"{plural(self._marked, 'answer')} marked as not to be trained: read, and not learned.")
        return self.problems.report(path, len(self._lines), self._notes)

    def _repeated(self) -> Iterator[tuple[int, int]]:
        """(line of a repetition, line of the first such conversation), ascending.

        Equal 64-bit hashes, all made under one seed: in this process, or in workers that share theirs.
        """
        hashes = np.asarray(self._hashes, np.int64)
        in_order = np.sort(hashes)
        if not (in_order[1:] == in_order[:-1]).any():  # finding out which they are takes six times the memory
            return
        _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        first_of = first[which]
        for position in np.flatnonzero(first_of != np.arange(len(hashes))):
            yield self._lines[position], self._lines[first_of[position]]
