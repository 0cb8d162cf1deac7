"""Servers as `serve` starts them: of the starter, and of a model that never ends."""

import pytest

from tests.support.serving import endless_served, starter_served


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The starter, with a key."""
    with starter_served(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """Replies that do not end by themselves, two at once."""
    with endless_served(tmp_path_factory.mktemp("endless")) as running:
        yield running
