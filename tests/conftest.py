"""Fixtures for every test: a home folder of its own, and no network."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time, so that a change is judged and not its luck; no deadline on a machine that is busy.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

pytest.register_assert_rewrite("tests.support.downloading")  # what its assertions found is shown, as of a test's own

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' models are so small that threads only cost


_started = [0]
"""Processes of ours that the tests have started so far, by Python's interpreter or a shell."""


def _count_started(event, arguments):
    if event == "subprocess.Popen" and Path(str(arguments[0])).name in (Path(sys.executable).name, "bash"):
        _started[0] += 1


sys.addaudithook(_count_started)


def pytest_collection_modifyitems(items):
    """The browser's tests each start the app."""
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.processes)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item) -> Iterator[None]:
    """Count from here on, fixtures included."""
    item.started_before = _started[0]
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item) -> Iterator[None]:
    """A test that starts processes says so, or `make check` would soon take as long as everything."""
    result = yield
    if _started[0] > item.started_before and not item.get_closest_marker("processes"):
        pytest.fail(f"{item.name} starts a process. Mark it with @pytest.mark.processes: `make check` leaves it out.")
    return result


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder; nothing that a test writes lands in the checkout."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("NANOCHAT_STUDIO_HOME", str(folder))
    return folder


@pytest.fixture
def models(home):
    """What the Chat tab's handlers ask in the place of real models."""
    from tests.support.chatting import install_fake_models

    return install_fake_models(home)


@pytest.fixture
def tiny_path(home, tmp_path):
    """A folder that holds one tiny model, as a person names it."""
    from tests.support.exporting import tiny_folder

    return str(tiny_folder(tmp_path / "small"))


@pytest.fixture
def cached(monkeypatch, home):
    """The folder of the cached tokens; files of any size are cached."""
    from nanochat_core.data.tokens import cache

    monkeypatch.setattr(cache, "CACHED_BYTES", 0)
    return cache.cache_dir()
