"""The lines of an opened dataset in memory, and what is known of each: faults, turns, tokens, its text to search in.

Lines are kept as bytes, not as Python objects (a tenth of the memory); one that is not touched is saved as it was.
A row's id is its place in `data`; `order` says which rows are in the dataset, and in which order.
"""

import json
from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np

from nanochat_core.data.line import Messages, judge_line
from nanochat_core.data.repair.line import with_promises
from nanochat_core.data.report import Fault
from nanochat_core.data.rules import texts
from studio.datasets.lengths import Length

UNKNOWN = -1
"""Tokens of a row that has not been counted yet. A row with errors has no tokens at all."""


class Rows:
    """Rows by id, with one array for each fact. Not locked: the session that owns it is."""

    def __init__(self, lines: Iterable[tuple[int, bytes]] = ()) -> None:
        self.data: list[bytes] = []
        self.searched: list[bytes] = []
        """Each row's text in lower case, UTF-8."""
        self.line = array("i")
        """Where the row is in the file that was opened, from 1; 0 for a row made since."""
        self.turns = array("i")
        self.tokens = array("i")
        self.trained = array("i")
        """Tokens within max_seq_len that the model learns to say."""
        self.hashes = array("q")
        """Equal for equal conversations; a faulty row has a number of its own."""
        self.faults: dict[int, tuple[Fault, ...]] = {}
        self.length_faults: dict[int, Fault] = {}
        self.order: list[int] = []
        self.version = 0
        """Counts changes, so that what was computed from the rows can tell whether it is still true."""
        self._repeats: tuple[int, dict[int, int]] = (-1, {})
        for line, data in lines:
            self.order.append(self.add(data, line))

    # Changing

    def add(self, data: bytes, line: int = 0) -> int:
        """A new row's id; it is in no place of the order yet."""
        row = len(self.data)
        self.data.append(b"")
        self.searched.append(b"")
        for facts, value in ((self.line, line), (self.turns, 0), (self.tokens, 0), (self.trained, 0), (self.hashes, 0)):
            facts.append(value)
        self.replace(row, data)
        return row

    def replace(self, row: int, data: bytes) -> None:
        """Give a row other content, and judge that."""
        judged, faults, _ = judge_line(data)
        faults = with_promises(data, faults)
        is_faulty = not judged or any(fault.level == "error" for fault in faults)
        self.data[row] = data
        self.version += 1
        self.faults.pop(row, None)
        self.length_faults.pop(row, None)
        if faults:
            self.faults[row] = tuple(faults)
        if is_faulty:
            self.searched[row] = data.lower()
            self.turns[row], self.tokens[row], self.trained[row] = 0, 0, 0
            self.hashes[row] = -row - 1 - (1 << 62)  # equal to nothing else
            return
        messages = judged[0]
        self.searched[row] = "\n".join(texts(messages)).lower().encode("utf-8")
        self.turns[row] = len(messages) - (messages[0]["role"] == "system")
        self.tokens[row], self.trained[row] = UNKNOWN, UNKNOWN
        self.hashes[row] = hash(tuple([(message["role"], _hashable(message["content"])) for message in messages]))

    def number_lines(self) -> None:
        """The order as it is now is the file's: rows that are not in it have no line."""
        self.line = array("i", bytes(self.line.itemsize * len(self.data)))
        for place, row in enumerate(self.order, 1):
            self.line[row] = place

    # Asking

    def value(self, row: int) -> Any:
        """The row's JSON; ValueError when it is none."""
        return json.loads(self.data[row])

    def messages(self, row: int) -> Messages | None:
        """The faultless, normalized messages of a row; None when it has an error."""
        if self.is_faulty(row):
            return None
        return judge_line(self.data[row])[0][0]

    def is_faulty(self, row: int) -> bool:
        """Whether a row has an error; warnings do not count."""
        return any(fault.level == "error" for fault in self.faults.get(row, ()))

    def faulty(self) -> np.ndarray:
        """Whether each row that ever was has an error, by id."""
        found = np.zeros(len(self.data), dtype=bool)
        found[[row for row in self.faults if self.is_faulty(row)]] = True
        return found

    def all_faults(self, row: int) -> list[Fault]:
        """Faults of the line and of its length. Repetitions are found by `repeats`."""
        extra = self.length_faults.get(row)
        return [*self.faults.get(row, ()), *([extra] if extra else [])]

    def ids(self) -> np.ndarray:
        """The rows of the dataset in their order."""
        return np.array(self.order, dtype=np.int64)

    def column(self, name: str) -> np.ndarray:
        """One fact of every row that ever was, by id; a copy, since an array cannot grow while it is lent."""
        return np.array(getattr(self, name))

    def repeats(self) -> dict[int, int]:
        """Row -> the earlier row of the dataset that it equals."""
        if self._repeats[0] != self.version:
            self._repeats = (self.version, self._find_repeats())
        return self._repeats[1]

    def _find_repeats(self) -> dict[int, int]:
        ids = self.ids()
        _, first, which = np.unique(self.column("hashes")[ids], return_index=True, return_inverse=True)
        later = np.flatnonzero(first[which] != np.arange(len(ids)))
        return {int(ids[place]): int(ids[first[which[place]]]) for place in later}

    # Counting

    def note_length(self, row: int, data: bytes, length: Length) -> None:
        """The length of `data`, unless the row has become another line while it was counted."""
        if self.data[row] is not data:
            return
        self.tokens[row], self.trained[row] = length.tokens, length.trained
        if length.fault is not None:
            self.length_faults[row] = length.fault


def _hashable(content: Any) -> Any:
    return content if isinstance(content, str) else tuple([(part["type"], part["text"]) for part in content])
