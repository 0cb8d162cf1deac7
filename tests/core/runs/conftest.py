"""A run that is recorded, and processes that stand for its own."""

import pytest

from tests.support.recorded_run import record, sleepers


@pytest.fixture
def run(home, tmp_path):
    return record(tmp_path)


@pytest.fixture
def sleeper():
    with sleepers() as start:
        yield start
