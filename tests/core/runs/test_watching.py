"""How a run is shown while it goes on, in a real notebook kernel and on a terminal; and that it can be interrupted."""

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanochat_core import FinetuneConfig, Run
from nanochat_core.runs.claiming import claim, run_processes
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.watching import LOOK_EVERY_SECONDS
from nanochat_core.system import processes
from tests.support.kernels import Kernel, run_cells
from tests.support.tiny import install_tiny_model, write_conversations

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(home):
    """Ten steps of a tiny model."""
    install_tiny_model(home)
    data = write_conversations(home / "data.jsonl", 12)
    return FinetuneConfig(
        str(data), model_tag="tiny", num_iterations=10, eval_every=5, dtype="float32", output_tag="mine"
    )


@pytest.fixture
def run(config):
    return create_run(config)


def config_cell(config, names="FinetuneConfig, finetune", **changes):
    settings = {**config.to_dict(), **changes}
    return f"from nanochat_core import {names}\nconfig = FinetuneConfig(**{settings!r})"


def test_training_in_a_notebook_shows_one_card_and_stores_its_last_state(config, home):
    _, outputs = run_cells(
        [config_cell(config), "run = finetune(config)\nassert run.status().state == 'finished'"], home
    )
    [card] = outputs  # no lines of the log, no warnings
    assert card.output_type == "display_data"
    assert "finished" in card.data["text/html"]
    assert '<progress max="10" value="10"' in card.data["text/html"]
    assert card.data["text/plain"].startswith("finished | step 10/10")
    assert "step 10/10" in Run.open("mine").log_tail()  # where the lines went


def test_a_run_beside_the_notebook_is_watched(config, home):
    cells = [
        config_cell(config, "FinetuneConfig, start_run"),
        "run = start_run(config)\nstatus = run.watch()",
        "print(status.state)\nrun",
    ]
    _, [card], [said, shown] = run_cells(cells, home)
    assert '<progress max="10" value="10"' in card.data["text/html"]
    assert said.text == "finished\n"
    assert "finished" in shown.data["text/html"]
    assert run_processes(Run.open("mine")) == []


def test_interrupting_the_kernel_saves_and_stops_and_others_can_go_on(config, home):
    kernel = Kernel(home)
    try:
        request = kernel.start(config_cell(config, num_iterations=100_000) + "\nrun = finetune(config)")
        limit = time.monotonic() + 120
        while not Run.list() or Run.open("mine").status().step < 3:  # as the app sees it meanwhile
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert Run.open("mine").status().state == "running"
        time.sleep(3 * LOOK_EVERY_SECONDS)  # so that the card has shown it
        kernel.interrupt()
        reply, shown = kernel.end_of(request)
        assert reply["status"] == "ok"  # no traceback: the cell ends as if it had been asked to
        cards = [message for message in shown if message["type"].endswith("display_data")]
        assert {message["transient"]["display_id"] for message in cards} == {cards[0]["transient"]["display_id"]}
        assert any("running" in message["data"]["text/html"] for message in cards)
        assert "stopped" in cards[-1]["data"]["text/html"]
        run = Run.open("mine")
        status = run.status()
        assert status.state == "stopped"
        assert (run.path / f"model_{status.step:06d}.pt").is_file()
        # The kernel lives on; that must keep nobody from waiting for the run or from going on with it.
        assert processes.is_alive(run.launcher())
        assert run_processes(run) == []
        assert run.wait(0.5).state == "stopped"
        claim(run, ["resumed elsewhere"])
    finally:
        kernel.close()


def test_a_failure_is_shown_on_the_card(config, home):
    wrong = (
        config_cell(config, "FinetuneConfig, Run")
        + "\nfrom nanochat_core.runs.launcher import create_run"
        + "\nrun = create_run(config)\nrun.write_status(state='failed', error='Bad <b>.')"
    )
    _, [card] = run_cells([wrong, "run.watch();"], home)
    assert "Bad &lt;b&gt;." in card.data["text/html"]


def test_in_a_file_a_watched_run_writes_a_line_for_every_tenth_of_the_way(run, capsys, monkeypatch):
    states = iter([("starting", 0), *(("running", step) for step in range(1, 101)), ("finished", 100)])

    def next_state(self, timeout=None):
        if timeout is not None:
            state, step = next(states)
            self.write_status(state=state, step=step, steps=100, train_loss=1.0)
        return self.status()

    monkeypatch.setattr(Run, "wait", next_state)
    run.write_launch(**processes.identity().to_dict())
    assert run.watch().state == "finished"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "starting | step 0/100 | train loss 1.0000"
    assert len(lines) == 13
    assert lines[-1] == "finished | step 100/100 | train loss 1.0000"


def test_on_a_terminal_the_line_is_rewritten_in_place(run):
    run.write_status(state="finished", step=5, steps=5)
    terminal, its_end = pty.openpty()
    code = "from nanochat_core import Run; Run.open('mine').watch()"
    narrow = {**os.environ, "COLUMNS": "13"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=its_end, check=True, env=narrow)
    os.close(its_end)
    written = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert written == "\r\x1b[Kfinished | s" * 2 + "\r\n"


def test_interrupting_a_watched_run_leaves_it_running(config, home):
    """The tests' own process plays the run's."""
    run = create_run(config)
    claim(run, ["train"])
    run.write_status(state="running", step=1, steps=10)
    kernel = Kernel(home)
    try:
        request = kernel.start("from nanochat_core import Run\nrun = Run.open('mine')\nprint('ready')\nrun.watch()")
        while kernel.client.get_iopub_msg(timeout=120)["content"].get("text") != "ready\n":
            pass
        time.sleep(0.3)
        kernel.interrupt()
        reply, _ = kernel.end_of(request)
        assert reply["ename"] == "KeyboardInterrupt"
    finally:
        kernel.close()
    assert not run.stop_requested()
    assert run.status().state == "running"


def test_wait_does_not_wait_for_the_notebook_that_trained_the_run(run):
    notebook = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        run.write_launch(**processes.identity(notebook.pid).to_dict(), detached=False)
        run.write_status(state="running")
        with pytest.raises(ValueError, match="already running"):
            claim(run, ["train"])
        assert run.wait(0.2).state == "running"
        run.write_status(state="finished")
        assert run.wait(60).state == "finished"
        claim(run, ["train"])
        assert json.loads(run.launch_file.read_text())["command"] == ["train"]
    finally:
        notebook.kill()
        notebook.wait()
