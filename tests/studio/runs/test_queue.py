"""The queue of runs survives what goes wrong, says it, and belongs to one app at a time."""

import threading
import time
from dataclasses import dataclass

import pytest

from nanochat_core.config import FinetuneConfig
from studio.runs import launching
from studio.runs import queue as run_queue


@pytest.fixture(autouse=True)
def quick(home, monkeypatch):
    monkeypatch.setattr(run_queue, "LOOK_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(run_queue, "_trouble", [""])


@pytest.fixture
def going():
    """Starts the thread of an app; every one of them ends with the test."""
    stops = []

    def start() -> threading.Thread:
        stops.append(threading.Event())
        thread = run_queue.keep_going(stops[-1])
        thread.leave = stops[-1].set
        return thread

    yield start
    for stop in stops:
        stop.set()


def _until(condition) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), PermissionError(13, "Permission denied"), ValueError("?")]
)
def test_an_error_does_not_end_the_queue_and_is_said(going, monkeypatch, error):
    calls = []

    def fail_at_first() -> str:
        calls.append(error)
        if len(calls) < 3:
            raise error
        return ""

    monkeypatch.setattr(run_queue, "start_next", fail_at_first)
    thread = going()
    _until(lambda: run_queue.trouble())
    _until(lambda: len(calls) > 5)
    assert thread.is_alive()
    _until(lambda: run_queue.trouble() == "")


def test_one_app_at_a_time_owns_the_queue_and_another_takes_over(going, monkeypatch):
    starters = []
    monkeypatch.setattr(run_queue, "start_next", lambda: starters.append(threading.current_thread()) or "")
    first = going()
    _until(lambda: starters)
    second = going()
    _until(lambda: len(starters) > 10)
    assert set(starters) == {first}
    first.leave()
    _until(lambda: second in starters)


def test_a_run_that_another_program_started_meanwhile_passes_none_over(tmp_path, monkeypatch):
    data = tmp_path / "data.jsonl"
    data.write_text("{}\n")
    run_queue.add(FinetuneConfig(data_path=str(data), output_tag="mine"))
    other = _Other("other")
    seen = iter([None, other])  # free when the queue looked, busy when it started
    monkeypatch.setattr(launching, "active_run", lambda: next(seen))
    assert run_queue.start_next() == ""
    [waiting] = run_queue.waiting()
    assert (waiting.tag, waiting.error) == ("mine", "")


@dataclass
class _Other:
    tag: str
