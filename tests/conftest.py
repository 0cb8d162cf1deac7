"""Fixtures for every test: a home folder of its own, and no network."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' models are so small that threads only cost


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder; nothing that a test writes lands in the checkout."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("NANOCHAT_STUDIO_HOME", str(folder))
    return folder
