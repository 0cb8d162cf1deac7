"""A hub on loopback with a model in it, and a program that fetches it."""

import pytest

from tests.support.downloading import FILES, REPO, fetcher
from tests.support.fake_hub import FakeHub, serving


@pytest.fixture
def hub():
    with serving(FakeHub(REPO, dict(FILES))) as hub:
        yield hub


@pytest.fixture
def fetch(home, tmp_path, hub):
    return fetcher(home, tmp_path, hub)
