"""A hub on loopback, a terminal whose commands reach it, and a run to publish."""

import pytest

from tests.support.fake_hub import FakeHub, serving
from tests.support.hub_process import Terminal
from tests.support.published_run import REPO, emptied, publisher


@pytest.fixture(scope="module")
def server():
    with serving(FakeHub(REPO)) as hub:
        yield hub


@pytest.fixture(scope="module")
def terminal(server, tmp_path_factory):
    terminal = Terminal(server, tmp_path_factory.mktemp("terminal"))
    yield terminal
    terminal.close()


@pytest.fixture
def hub(server):
    """An empty hub at the same address for every test."""
    return emptied(server)


@pytest.fixture
def published(hub, home, terminal):
    """Runs `publish` with its arguments: (exit status, standard output, standard error)."""
    return publisher(home, terminal)
