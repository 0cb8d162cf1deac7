"""Pages that are left open cost the app nothing that grows: four browsers, a run that is watched, many rounds."""

import asyncio
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import gradio as gr
import httpx
import psutil
import pytest
from gradio.state_holder import SessionState

from nanochat_core.paths import PROJECT_ROOT
from studio.parts.page import Page
from tests.e2e.invented import invent_run
from tests.e2e.real_app import free_port
from tests.support.space_app import Guest

BROWSERS = 4
WARM_UP, ROUNDS = 8, 32
"""Half an hour of polling has some hundreds of rounds; what leaks a thread or a file a round shows in a few."""


@pytest.fixture
def app(home):
    """The app on this machine, with a run to look at."""
    invent_run("watched", steps=200)
    port = free_port()
    with open(home / "app.log", "wb") as log:
        command = [sys.executable, "app.py", "--port", str(port)]
        process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    limit = time.monotonic() + 240
    while not _answers(base):
        assert process.poll() is None, (home / "app.log").read_text()
        assert time.monotonic() < limit
        time.sleep(0.2)
    yield SimpleNamespace(base=base, process=psutil.Process(process.pid))
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def _answers(base):
    try:
        return httpx.get(f"{base}/config", timeout=30, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def polls(guest):
    """The events of the page's clocks that the server answers."""
    return [
        e for e in guest.config["dependencies"] if e["backend_fn"] and any(name == "tick" for _, name in e["targets"])
    ]


def one_round(guests):
    for guest in guests:
        for event in polls(guest):
            guest.join(event)
        messages = guest.messages()
        ends = [message for message in messages if message["msg"] == "process_completed"]
        assert len(ends) == len(polls(guest))
        assert all(message["success"] for message in ends), ends


def cost(process):
    """(threads, open files and sockets, megabytes of its own) of the app."""
    time.sleep(0.5)  # what has just ended is being closed
    return process.num_threads(), process.num_fds(), process.memory_full_info().uss / 1e6


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_four_browsers_leave_threads_files_and_memory_flat(app):
    guests = [Guest(app, host="") for _ in range(BROWSERS)]
    assert polls(guests[0])
    for guest in guests:
        guest.open()
    for _ in range(WARM_UP):
        one_round(guests)
    before = cost(app.process)
    for _ in range(ROUNDS):
        one_round(guests)
    threads, files, megabytes = (now - then for now, then in zip(cost(app.process), before, strict=True))
    assert threads <= 2, "threads are left"
    assert files <= 2, "files or sockets are left"
    assert megabytes <= 40, "memory grows"  # coarse: what the allocator keeps varies; the test below is exact
    assert not app.process.children(recursive=True), "processes are left"


@pytest.mark.parametrize("answer", [gr.skip(), gr.update(choices=["a", "b"])], ids=["skipped", "updated"])
def test_a_session_holds_one_component_for_each_field_however_often_it_polls(answer):
    """A field that is input and output of a clock's event: gradio by itself adds a component with each tick."""
    with Page() as page:
        field, clock = gr.Dropdown(["a"], value="a"), gr.Timer(1)
        clock.tick(lambda _: answer, field, field)
    state = SessionState(page)
    (event,) = page.default_config.fns.values()
    before = set(state.blocks_config.blocks)

    async def ticks():
        for _ in range(5):
            await page.process_api(event, ["a"], state=state)

    asyncio.run(ticks())
    assert set(state.blocks_config.blocks) == before
    assert len(state.config_values) == len(before)


@pytest.mark.parametrize("make", [gr.Dropdown, gr.Radio])
def test_what_was_chosen_and_is_gone_from_its_list_reaches_the_handler(make):
    """A run that is deleted elsewhere stays chosen on the page that looks at it, whose clock goes on."""
    lists, told = iter([["a", "b"], ["a"], ["a"]]), []

    def tick(*chosen):
        told.append(chosen)
        return make(choices=next(lists)), gr.skip()

    with Page() as page:
        fields, clock = [make(["a"], value="a"), make(["x", "y"], value="x")], gr.Timer(1)
        clock.tick(tick, fields, fields)
    state = SessionState(page)
    (event,) = page.default_config.fns.values()

    async def ticks():
        for chosen in ("a", "b", "b"):
            await page.process_api(event, [chosen, "x"], state=state)
        with pytest.raises(gr.Error, match="not in the list"):
            await page.process_api(event, ["a", "z"], state=state)

    asyncio.run(ticks())
    assert told == [("a", "x"), ("b", "x"), ("b", "x")]
