"""The table of rotary positions: long enough for whoever asked, also when threads ask at once."""

import torch

from nanochat_core.model.functions import RotaryTable
from nanochat_core.model.shape import GENERATIONS


class Shared(RotaryTable):
    """Another thread, which has begun before, puts a shorter table there right after each that is put."""

    @property
    def _table(self):
        return self._found

    @_table.setter
    def _table(self, table):
        self._found = table and tuple(part[:4] for part in table)


def test_another_thread_s_shorter_table_is_not_given():
    table = Shared(GENERATIONS["A"], 16, 8)
    for length in (30, 9, 60):
        assert [len(part) >= length for part in table.of(length, torch.device("cpu"))] == [True, True]


def test_a_table_is_kept_until_more_positions_are_needed():
    table = RotaryTable(GENERATIONS["A"], 16, 8)
    first = table.of(3, torch.device("cpu"))
    assert len(first[0]) == 8
    assert table.of(8, torch.device("cpu")) is first
    assert len(table.of(9, torch.device("cpu"))[1]) == 9
